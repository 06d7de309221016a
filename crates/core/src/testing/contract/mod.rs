//! The contract suites: tests that every implementation of a port must pass. Each suite uses new record ids, so it may
//! run against a shared service.
#![expect(clippy::cognitive_complexity, reason = "a contract is a list of assertions")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod access_entries;
mod open_records;
mod payload_cache;
mod record_queries;
mod uploads;

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use self::{
    access_entries::access_entries,
    open_records::{acceptance_markers, concurrent_claims, idempotency_claims, open_records},
    payload_cache::payload_cache,
    record_queries::record_queries,
    uploads::{sample_upload, staging_area, uploads},
};
use crate::{
    clock::{Clock, Timestamp},
    dead_letter::{FailureSummary, StageFailure},
    error::{ErrorKind, ErrorName},
    manifest::Manifest,
    message::{InternalMessage, S3Reference},
    payload_source::PayloadSource,
    ports::{
        CompletionTimes, Discard, FailedItem, FailedStore, ItemState, NotedDiscard, PayloadArchive,
        RecordTable, Start, StoredMetadata, Workflow,
    },
    receipt::ArchiveReceipt,
    testing::samples,
};

fn now() -> Timestamp {
    samples::TestClock::default().now()
}

/// Checks the contract of [`PayloadArchive`].
pub async fn payload_archive(archive: &impl PayloadArchive) {
    let payload = Bytes::from_static(b"\0binary \xff payload");
    let message = samples::message(&payload);
    let key = message.message_id.archive_key();
    assert_eq!(archive.find(&key).await.unwrap(), None);

    let object = archive.store(&key, payload.clone().into(), &message.payload, now()).await.unwrap();
    assert_eq!((&object.reference.key, object.archived_at), (&key, now()));
    assert_eq!(archive.find(&key).await.unwrap().as_ref(), Some(&object), "the object must exist");
    assert_eq!((object.sha256, object.size_bytes), (message.payload.sha256, message.payload.size_bytes));

    let late = now().after(std::time::Duration::from_secs(90));
    let again = archive.store(&key, payload.clone().into(), &message.payload, late).await;
    assert_eq!(again.expect("equal content may be stored again"), object, "the first time must remain");

    let other = samples::message_of(message.message_id, b"other");
    let conflict =
        archive.store(&key, Bytes::from_static(b"other").into(), &other.payload, now()).await.unwrap_err();
    assert_eq!(conflict.name, ErrorName::ArchiveConflict);
    assert_eq!(archive.find(&key).await.unwrap(), Some(object), "a conflict must not change the object");

    let lie = samples::message(b"announced");
    let key = lie.message_id.archive_key();
    let refused = archive.store(&key, Bytes::from_static(b"sent").into(), &lie.payload, now()).await;
    assert_eq!(refused.expect_err("the store verifies digests").name, ErrorName::PayloadCorrupted);
    assert_eq!(archive.find(&key).await.unwrap(), None);

    a_payload_comes_in_pieces_or_not_at_all(archive).await;
    the_first_manifest_of_an_attempt_remains(archive).await;
}

async fn the_first_manifest_of_an_attempt_remains(archive: &impl PayloadArchive) {
    let payload = Bytes::from_static(b"described");
    let message = samples::message(&payload);
    let (first, second) = (message.attempt(), message.attempt().next());
    assert_eq!(archive.manifest(first).await.unwrap(), None);
    let key = message.message_id.archive_key();
    let object = archive.store(&key, payload.into(), &message.payload, now()).await.unwrap();
    let receipt = ArchiveReceipt {
        s3_reference: object.reference,
        sha256: object.sha256,
        size_bytes: object.size_bytes,
        archived_at: object.archived_at,
    };
    let manifest = Manifest::new(&message, receipt.clone());
    archive.store_manifest(&manifest).await.unwrap();
    let later = ArchiveReceipt { archived_at: now().after(std::time::Duration::from_secs(90)), ..receipt };
    archive.store_manifest(&Manifest::new(&message, later.clone())).await.expect("it may be stored again");
    assert_eq!(archive.manifest(first).await.unwrap(), Some(manifest), "the first one must remain");

    assert_eq!(archive.manifest(second).await.unwrap(), None);
    let of_second = Manifest::new(&samples::redriven(&message), later);
    archive.store_manifest(&of_second).await.unwrap();
    assert_eq!(archive.manifest(second).await.unwrap(), Some(of_second));
}

async fn a_payload_comes_in_pieces_or_not_at_all(archive: &impl PayloadArchive) {
    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let message = samples::message(&payload);
    let key = message.message_id.archive_key();
    let size = payload.len() as u64;
    let pieces: Vec<Bytes> = payload.chunks(7_000).map(Bytes::copy_from_slice).collect();
    let read = |pieces: Vec<Bytes>, end: Option<io::ErrorKind>| {
        let end = end.map(|kind| Err(kind.into()));
        stream::iter(pieces.into_iter().map(Ok).chain(end)).boxed()
    };
    let (half, gone) = (pieces[..20].to_vec(), io::ErrorKind::UnexpectedEof);
    let again = half.clone();
    let broken = PayloadSource::new(size, read(half, Some(gone)), move || read(again.clone(), Some(gone)));
    let error = archive.store(&key, broken, &message.payload, now()).await.expect_err("its source broke off");
    assert_eq!(error.kind(), ErrorKind::Transient, "{error}");
    assert_eq!(archive.find(&key).await.unwrap(), None, "a part of a payload must not be stored");

    let again = pieces.clone();
    let whole = PayloadSource::new(size, read(pieces, None), move || read(again.clone(), None));
    let object = archive.store(&key, whole, &message.payload, now()).await.unwrap();
    assert_eq!((object.sha256, object.size_bytes), (message.payload.sha256, size));
}

/// Checks the contract of [`FailedStore`].
pub async fn failed_store(store: &impl FailedStore) {
    let key = format!("records/{}", samples::record_id().archive_key());
    let content = Bytes::from_static(b"kept");
    assert_eq!(store.fetch(&key).await.unwrap(), None);
    assert!(store.source(&key).await.unwrap().is_none());
    assert_eq!(store.find(&key).await.unwrap(), None);
    let reference = store.preserve(&key, content.clone()).await.unwrap();
    assert_eq!(reference.key, key);
    assert_eq!(store.preserve(&key, content.clone()).await.expect("the call may be repeated"), reference);
    assert_eq!(store.fetch(&key).await.unwrap().as_ref(), Some(&content));
    let source = store.source(&key).await.unwrap().expect("the object must be readable in pieces");
    for _ in 0..2 {
        let pieces: Vec<Bytes> = source.pieces().try_collect().await.unwrap();
        assert_eq!((pieces.concat(), source.size_bytes()), (content.to_vec(), 4));
    }
    assert_eq!(store.find(&key).await.unwrap(), Some(reference));
}

/// Checks the contract of a [`Workflow`] that recognizes names.
pub async fn workflow(workflow: &impl Workflow) {
    assert!(workflow.recognizes_names());
    let message = samples::message(b"payload");
    assert_eq!(workflow.start(&message, 1).await.unwrap(), Start::Started);
    let again = workflow.start(&message, 1).await.expect("starting may be repeated");
    assert_ne!(again, Start::Started, "a start must not run twice");
    assert_eq!(workflow.start(&message, 2).await.unwrap(), Start::Started, "it is a second execution");

    // A later attempt of the record has its own executions.
    let second = samples::redriven(&message);
    assert_eq!(workflow.start(&second, 1).await.unwrap(), Start::Started);
}

/// Creates a failure of `message` in the archive stage.
pub fn failure_of(message: &InternalMessage) -> FailureSummary {
    let failures = vec![StageFailure {
        stage: "archive".to_owned(),
        error_name: ErrorName::AccessDenied.as_str().to_owned(),
        cause: "denied".to_owned(),
        tries: 1,
    }];
    let mut failure = FailureSummary::new(
        failures,
        message.attempt().number(),
        now(),
        Some("arn:aws:states:::x".to_owned()),
    );
    failure.payload_reference =
        Some(S3Reference { bucket: "failed".to_owned(), key: message.message_id.preserved_key() });
    failure
}

fn completed(mut message: InternalMessage, stored: &StoredMetadata) -> InternalMessage {
    let context = &mut message.storage_context;
    context.redis_reference = None;
    context.s3_reference =
        Some(S3Reference { bucket: "archive".to_owned(), key: message.message_id.archive_key() });
    context.metadata_reference = Some(stored.reference.clone());
    context.persistence.s3 = true;
    context.persistence.metadata = true;
    message
}

/// Checks the contract of [`RecordTable`].
pub async fn record_table(table: &impl RecordTable) {
    an_item_is_completed_once(table).await;
    a_failed_item_tells_of_the_latest_attempt(table).await;
    a_rebuild_is_noted_in_an_item_that_exists(table).await;
    assert!(table.states(&[]).await.unwrap().is_empty());
}

async fn an_item_is_completed_once(table: &impl RecordTable) {
    let later = now().after(std::time::Duration::from_secs(5));
    let times = CompletionTimes { archived_at: now(), completed_at: later };
    let message = samples::message(b"payload");
    let id = message.message_id;
    let missing = table.complete(&message, times).await.unwrap_err();
    assert_eq!(missing.name, ErrorName::ItemMissing, "there is no item to complete yet");
    let stored = table.put_received(&message, now()).await.unwrap();
    assert_eq!((stored.reference.primary_key, stored.stored_at), (id, now()));
    assert_eq!(table.states(&[id]).await.unwrap()[&id], ItemState::Received);
    // More ids than one request to DynamoDB may have.
    let mut many: Vec<_> = (0..120).map(|_| samples::record_id()).collect();
    many.push(id);
    assert_eq!(table.states(&many).await.unwrap().into_keys().collect::<Vec<_>>(), [id]);
    let again = table.put_received(&message, later).await.expect("an equal item may be stored again");
    assert_eq!(again, stored, "the first time must remain");
    let other = samples::message_of(id, b"other");
    assert_eq!(table.put_received(&other, now()).await.unwrap_err().name, ErrorName::MetadataConflict);
    assert_eq!(table.complete(&other, times).await.unwrap_err().name, ErrorName::ItemMissing);
    let foreign = table.fail(&other, &failure_of(&other)).await.unwrap_err();
    assert_eq!(foreign.name, ErrorName::MetadataConflict, "the item of another payload must not be changed");

    let done = completed(message, &stored);
    assert_eq!(table.complete(&done, times).await.unwrap(), times);
    let late = CompletionTimes { completed_at: later.after(std::time::Duration::from_secs(5)), ..times };
    let again = table.complete(&done, late).await.expect("completing may be repeated");
    assert_eq!(again, times, "a completed item keeps its times");
    let failed = table.fail(&done, &failure_of(&done)).await.unwrap();
    assert_eq!(failed, FailedItem::AlreadyCompleted, "a completed record stays completed");
    let ItemState::Completed(item) = &table.states(&[id]).await.unwrap()[&id] else {
        panic!("the item is not completed")
    };
    assert_eq!((item.times, item.stored_at), (times, now()));
    assert_eq!(item.s3_reference, done.storage_context.s3_reference);
    assert_eq!(item.metadata_reference, done.storage_context.metadata_reference);
    assert!(!table.discard(done.attempt(), &discard()).await.unwrap(), "a completed item is final");
}

async fn a_rebuild_is_noted_in_an_item_that_exists(table: &impl RecordTable) {
    let message = samples::message(b"made again");
    let id = message.message_id;
    let missing = table.note_rebuilt(id, now()).await.unwrap_err();
    assert_eq!(missing.name, ErrorName::ItemMissing);
    assert!(table.states(&[id]).await.unwrap().is_empty(), "the note must not make an item");
    table.put_received(&message, now()).await.unwrap();
    table.note_rebuilt(id, now()).await.unwrap();
    table.note_rebuilt(id, now()).await.expect("the note may be repeated");
    assert_eq!(table.states(&[id]).await.unwrap()[&id], ItemState::Received, "the state must remain");
}

fn discard() -> Discard {
    Discard { by: "operator".to_owned(), at: now(), reason: "a reason".to_owned() }
}

async fn a_failed_item_tells_of_the_latest_attempt(table: &impl RecordTable) {
    let state = async |id| table.states(&[id]).await.unwrap().remove(&id);
    // If the metadata of a record could not be stored, its failure creates an item, and the record can still be
    // completed.
    let message = samples::message(b"never indexed");
    let id = message.message_id;
    let failure = failure_of(&message);
    assert_eq!(state(id).await, None);
    assert!(!table.discard(message.attempt(), &discard()).await.unwrap());
    assert_eq!(table.fail(&message, &failure).await.unwrap(), FailedItem::Failed);
    assert_eq!(table.fail(&message, &failure).await.expect("failing may be repeated"), FailedItem::Failed);
    assert_eq!(state(id).await, Some(ItemState::Failed { attempt: 1, discarded: None }));
    let first = NotedDiscard { attempt: 1, discard: discard() };
    assert!(table.discard(message.attempt(), &first.discard).await.unwrap());
    let discarded = ItemState::Failed { attempt: 1, discarded: Some(first) };
    assert_eq!(state(id).await.as_ref(), Some(&discarded));
    let second = Discard { reason: "another reason".to_owned(), ..discard() };
    assert!(
        !table.discard(message.attempt(), &second).await.unwrap(),
        "subscribers may have been told the first reason"
    );
    assert_eq!(state(id).await, Some(discarded));

    // A late failure of an earlier attempt must not overwrite the failure of a later attempt. The failure of a later
    // attempt is undecided again.
    let second = samples::redriven(&message);
    assert_eq!(table.fail(&second, &failure_of(&second)).await.unwrap(), FailedItem::Failed);
    assert_eq!(table.fail(&message, &failure).await.unwrap(), FailedItem::Superseded);
    assert_eq!(state(id).await, Some(ItemState::Failed { attempt: 2, discarded: None }));
    assert!(
        !table.discard(message.attempt(), &discard()).await.unwrap(),
        "a discard of an earlier attempt must have no effect"
    );
    assert!(
        table.discard(second.attempt(), &discard()).await.unwrap(),
        "each failed attempt is decided anew"
    );
    let of_second = NotedDiscard { attempt: 2, discard: discard() };
    assert_eq!(state(id).await, Some(ItemState::Failed { attempt: 2, discarded: Some(of_second) }));

    let times = CompletionTimes { archived_at: now(), completed_at: now() };
    let stored = table.put_received(&second, now()).await.expect("a failed record may be tried again");
    table.complete(&completed(second, &stored), times).await.unwrap();
    assert!(matches!(state(id).await, Some(ItemState::Completed(_))));
}
