//! The contract suites: what every implementation of a port must do. Each suite uses fresh ids, so it may run
//! against a shared service.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod payload_cache;

use bytes::Bytes;
use custody_core::{
    clock::{Clock, Timestamp},
    dead_letter::{FailureSummary, StageFailure},
    digest::Sha256,
    error::ErrorName,
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, MetaDataReference, S3Reference},
    ports::{
        CompletionTimes, FailedItem, FailedStore, IdempotencyClaims, ItemState, Outcome, PayloadArchive,
        PayloadCache, PendingMarkers, PendingRun, PendingRuns, RecordTable, Start, Workflow,
    },
    receipt::Durability,
    record_id::RecordId,
    run::Run,
};

pub use self::payload_cache::payload_cache_v2;
use crate::samples;

fn now() -> Timestamp {
    samples::TestClock::default().now()
}

/// [`PayloadCache`].
pub async fn payload_cache(cache: &impl PayloadCache) {
    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut message = samples::message(&payload);
    let id = message.message_id;
    assert_eq!(cache.payload(id).await.unwrap(), None, "an unknown record has no payload");

    message.storage_context.redis_reference = Some(cache.reference(id));
    cache.put(&message, &(&payload).into(), None).await.unwrap();
    let read = cache.payload(id).await.unwrap().unwrap();
    assert_eq!(read.bytes, payload, "bytes come back as they went in");
    assert_eq!(read.sha256, Sha256::of(&payload), "with their digest");
    cache.put(&message, &(&payload).into(), None).await.expect("a put may be repeated");
    cache.extend(&[id, samples::record_id()]).await.expect("whatever is here lives on");

    cache.settle(message.run()).await.unwrap();
    assert!(cache.payload(id).await.unwrap().is_some(), "a settled payload lives on for the grace time");
    cache.settle(message.run()).await.expect("settling may be repeated");
    cache.settle(Run::first(samples::record_id())).await.expect("an unknown record is settled");
}

/// [`PendingRuns`] of a store that `note` and `end` write to.
async fn pending_runs<P: PendingRuns>(
    store: &P,
    note: impl AsyncFn(&InternalMessage),
    end: impl AsyncFn(Run),
) {
    const ALL: usize = 100_000;
    let noted = async |run: Run| {
        store.pending(ALL).await.unwrap().into_iter().find(|pending: &PendingRun| pending.run == run)
    };
    let first = samples::message(b"payload");
    let run = first.run();
    assert_eq!(noted(run).await, None);
    assert_eq!(store.message(run).await.unwrap(), None, "an unknown run has no message");
    note(&first).await;
    let pending = noted(run).await.expect("what was noted is pending");
    assert_eq!(store.message(run).await.unwrap().as_ref(), Some(&first));
    note(&first).await;
    assert_eq!(noted(run).await, Some(pending), "noting may be repeated");

    // A later run of the same record is another one, with a life of its own.
    let second = samples::redriven(first.clone());
    note(&second).await;
    assert_ne!(second.run(), run);
    assert!(noted(run).await.is_some() && noted(second.run()).await.is_some());
    assert_eq!(store.message(second.run()).await.unwrap().as_ref(), Some(&second));
    end(run).await;
    assert_eq!(noted(run).await, None);
    assert!(noted(second.run()).await.is_some(), "the end of the first run does not end the second");
    end(second.run()).await;
    assert_eq!(noted(second.run()).await, None);
    assert!(store.pending(0).await.unwrap().is_empty(), "the limit holds");
}

/// [`PendingRuns`] of a [`PayloadCache`].
pub async fn pending_entries(cache: &(impl PayloadCache + PendingRuns)) {
    let note = async |message: &InternalMessage| cache.put(message, &b"payload".into(), None).await.unwrap();
    pending_runs(cache, note, async |run| cache.settle(run).await.unwrap()).await;

    // A payload that a later run needs is not given up by the end of an earlier one.
    let first = samples::message(b"payload");
    let second = samples::redriven(first.clone());
    cache.put(&first, &b"payload".into(), None).await.unwrap();
    cache.put(&second, &b"payload".into(), None).await.unwrap();
    cache.settle(first.run()).await.unwrap();
    assert!(cache.payload(first.message_id).await.unwrap().is_some());
    assert_eq!(cache.message(second.run()).await.unwrap().as_ref(), Some(&second));
    cache.settle(second.run()).await.unwrap();
}

/// [`IdempotencyClaims`].
pub async fn idempotency_claims(claims: &impl IdempotencyClaims) {
    let (first, second) = (samples::message(b"payload"), samples::message(b"other"));
    let key = IdempotencyKey::of_header("contract", &first.message_id.to_string()).unwrap();
    let own = Claim::new(first.message_id, &first.payload);
    assert_eq!(claims.find(&key).await.unwrap(), None);
    assert_eq!(claims.claim(&key, &own).await.unwrap(), own, "a new key is the claimant's");
    assert_eq!(claims.find(&key).await.unwrap(), Some(own.clone()));
    assert_eq!(claims.claim(&key, &own).await.unwrap(), own, "claiming may be repeated");
    let late = Claim::new(second.message_id, &second.payload);
    assert_eq!(claims.claim(&key, &late).await.unwrap(), own, "a taken key stays the first claimant's");
    claims.confirm(&key, &own.stored(Durability::Archived)).await.unwrap();
    let confirmed = own.stored(Durability::Archived);
    assert_eq!(claims.claim(&key, &late).await.unwrap(), confirmed);
    assert_eq!(claims.find(&key).await.unwrap(), Some(confirmed));
}

/// [`IdempotencyClaims`] of a [`PayloadCache`]: storing a record confirms its claim.
pub async fn claims_of_cached_records(cache: &(impl PayloadCache + IdempotencyClaims)) {
    let message = samples::message(b"payload");
    let key = IdempotencyKey::of_header("contract", &message.message_id.to_string()).unwrap();
    let message = samples::message_of(RecordId::mint(now()).in_shard(key.shard()), b"payload");
    let own = Claim::new(message.message_id, &message.payload);
    cache.claim(&key, &own).await.unwrap();
    cache.put(&message, &b"payload".into(), Some(&key)).await.unwrap();
    assert_eq!(cache.claim(&key, &own).await.unwrap(), own.stored(Durability::Replicated));
    cache.confirm(&key, &own.stored(Durability::Archived)).await.unwrap();
    assert_eq!(cache.claim(&key, &own).await.unwrap().durability, Some(Durability::Archived));
}

/// [`PayloadArchive`].
pub async fn payload_archive(archive: &impl PayloadArchive) {
    let payload = Bytes::from_static(b"\0binary \xff payload");
    let message = samples::message(&payload);
    let key = message.message_id.archive_key();
    assert_eq!(archive.find(&key).await.unwrap(), None);

    let reference = archive.store(&key, payload.clone(), &message.payload).await.unwrap();
    assert_eq!(reference.key, key);
    let object = archive.find(&key).await.unwrap().expect("the object is there");
    assert_eq!(object.reference, reference);
    assert_eq!((object.sha256, object.size_bytes), (message.payload.sha256, message.payload.size_bytes));

    let again = archive.store(&key, payload.clone(), &message.payload).await;
    assert_eq!(again.expect("equal content may be stored again"), reference);

    let other = samples::message_of(message.message_id, b"other");
    let conflict = archive.store(&key, Bytes::from_static(b"other"), &other.payload).await.unwrap_err();
    assert_eq!(conflict.name, ErrorName::ArchiveConflict);
    assert_eq!(archive.find(&key).await.unwrap(), Some(object), "a conflict leaves the object alone");

    let lie = samples::message(b"announced");
    let key = lie.message_id.archive_key();
    assert!(
        archive.store(&key, Bytes::from_static(b"sent"), &lie.payload).await.is_err(),
        "the store verifies digests"
    );
    assert_eq!(archive.find(&key).await.unwrap(), None);
}

/// [`PendingMarkers`].
pub async fn pending_markers(markers: &(impl PendingMarkers + PendingRuns)) {
    let message = samples::message(b"payload");
    markers.clear(message.run()).await.expect("an absent marker is cleared");
    markers.mark(&message).await.unwrap();
    markers.mark(&message).await.expect("marking may be repeated");
    markers.clear(message.run()).await.unwrap();
    markers.clear(message.run()).await.expect("clearing may be repeated");

    let note = async |message: &InternalMessage| markers.mark(message).await.unwrap();
    pending_runs(markers, note, async |run| markers.clear(run).await.unwrap()).await;
}

/// [`FailedStore`].
pub async fn failed_store(store: &impl FailedStore) {
    let key = format!("records/{}", samples::record_id().archive_key());
    let content = Bytes::from_static(b"kept");
    assert_eq!(store.fetch(&key).await.unwrap(), None);
    let reference = store.keep(&key, content.clone()).await.unwrap();
    assert_eq!(reference.key, key);
    assert_eq!(store.keep(&key, content.clone()).await.expect("keeping may be repeated"), reference);
    assert_eq!(store.fetch(&key).await.unwrap(), Some(content));
}

/// [`Workflow`].
pub async fn workflow(workflow: &impl Workflow) {
    let message = samples::message(b"payload");
    assert_eq!(workflow.outcome(message.run()).await.unwrap(), None, "nothing was started yet");
    assert_eq!(workflow.start(&message).await.unwrap(), Start::Started);
    let again = workflow.start(&message).await.expect("starting may be repeated");
    assert_ne!(again, Start::Started, "one run is one execution");
    assert!(workflow.outcome(message.run()).await.unwrap().is_some());

    // A later run of the record is an execution of its own.
    let second = samples::redriven(message);
    assert_eq!(workflow.start(&second).await.unwrap(), Start::Started);
    assert!(!matches!(workflow.outcome(second.run()).await.unwrap(), None | Some(Outcome::Succeeded)));
}

/// A failure of `message` at the archive stage.
pub fn failure_of(message: &InternalMessage) -> FailureSummary {
    let failures = vec![StageFailure {
        stage: "archive".to_owned(),
        error_name: ErrorName::AccessDenied.as_str().to_owned(),
        cause: "denied".to_owned(),
        tries: 1,
    }];
    let mut failure =
        FailureSummary::new(failures, message.run().attempt(), now(), Some("arn:aws:states:::x".to_owned()));
    failure.payload_reference = Some(S3Reference {
        bucket: "failed".to_owned(),
        key: format!("records/{}", message.message_id.archive_key()),
    });
    failure
}

fn completed(mut message: InternalMessage, reference: MetaDataReference) -> InternalMessage {
    let context = &mut message.storage_context;
    context.redis_reference = None;
    context.s3_reference =
        Some(S3Reference { bucket: "archive".to_owned(), key: message.message_id.archive_key() });
    context.meta_data_reference = Some(reference);
    context.persistence.s3 = true;
    context.persistence.meta_data = true;
    message
}

/// [`RecordTable`].
pub async fn record_table(table: &impl RecordTable) {
    let times = CompletionTimes { archived_at: now(), completed_at: now() };

    let message = samples::message(b"payload");
    let missing = table.complete(&message, times).await.unwrap_err();
    assert_eq!(missing.name, ErrorName::ItemMissing, "there is nothing to complete yet");
    let reference = table.put_received(&message, now()).await.unwrap();
    assert_eq!(reference.primary_key, message.message_id);
    assert_eq!(
        table.put_received(&message, now()).await.expect("an equal item may be stored again"),
        reference
    );
    let other = samples::message_of(message.message_id, b"other");
    assert_eq!(table.put_received(&other, now()).await.unwrap_err().name, ErrorName::MetadataConflict);
    assert_eq!(table.complete(&other, times).await.unwrap_err().name, ErrorName::ItemMissing);
    let foreign = table.fail(&other, &failure_of(&other)).await.unwrap_err();
    assert_eq!(foreign.name, ErrorName::MetadataConflict, "another record's item is left alone");

    let done = completed(message, reference);
    assert_eq!(table.complete(&done, times).await.unwrap(), times);
    let later =
        CompletionTimes { completed_at: Timestamp::from_unix_ms(now().unix_ms() + 5000).unwrap(), ..times };
    let again = table.complete(&done, later).await.expect("completing may be repeated");
    assert_eq!(again, times, "a completed item keeps its times");
    let late = table.fail(&done, &failure_of(&done)).await.unwrap();
    assert_eq!(late, FailedItem::AlreadyCompleted, "a completed record stays completed");

    // A record whose metadata could not be stored still gets an item that says so, and can recover.
    let failed = samples::message(b"never indexed");
    let failure = failure_of(&failed);
    assert_eq!(table.fail(&failed, &failure).await.unwrap(), FailedItem::Marked);
    assert_eq!(table.fail(&failed, &failure).await.expect("failing may be repeated"), FailedItem::Marked);
    let received = samples::message(b"received");
    table.put_received(&received, now()).await.unwrap();
    let asked = [done.message_id, failed.message_id, received.message_id, samples::record_id()];
    let states = table.states(&asked).await.unwrap();
    assert_eq!(
        states.into_iter().collect::<std::collections::HashMap<_, _>>(),
        [
            (done.message_id, ItemState::Completed),
            (failed.message_id, ItemState::Failed { attempt: 1, discarded: false }),
            (received.message_id, ItemState::Received),
        ]
        .into()
    );
    assert!(table.states(&[]).await.unwrap().is_empty());

    // What is known of a later run is not overwritten by an earlier one's late word.
    let second = samples::redriven(failed.clone());
    assert_eq!(table.fail(&second, &failure_of(&second)).await.unwrap(), FailedItem::Marked);
    assert_eq!(table.fail(&failed, &failure).await.unwrap(), FailedItem::Superseded);
    let state = table.states(&[failed.message_id]).await.unwrap();
    assert_eq!(state[&failed.message_id], ItemState::Failed { attempt: 2, discarded: false });

    let reference = table.put_received(&second, now()).await.expect("a failed record may run again");
    table.complete(&completed(second, reference), times).await.unwrap();
}
