//! The contract suites: what every implementation of a port must do. Each suite uses fresh ids, so it may run
//! against a shared service.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use bytes::Bytes;
use custody_core::{
    clock::{Clock, Timestamp},
    dead_letter::{FailureSummary, StageFailure},
    error::ErrorName,
    message::{InternalMessage, MetaDataReference, S3Reference},
    ports::{
        CompletionTimes, FailedItem, FailedStore, PayloadArchive, PayloadCache, PendingMarkers, RecordTable,
        Workflow,
    },
};

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
    cache.put(&message, &payload).await.unwrap();
    assert_eq!(
        cache.payload(id).await.unwrap().as_deref(),
        Some(payload.as_slice()),
        "bytes come back as they went in"
    );
    cache.put(&message, &payload).await.expect("a put may be repeated");

    cache.settle(id).await.unwrap();
    assert!(cache.payload(id).await.unwrap().is_some(), "a settled payload lives on for the grace time");
    cache.settle(id).await.expect("settling may be repeated");
    cache.settle(samples::record_id()).await.expect("an unknown record is settled");
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
pub async fn pending_markers(markers: &impl PendingMarkers) {
    let message = samples::message(b"payload");
    markers.clear(message.message_id).await.expect("an absent marker is cleared");
    markers.mark(&message).await.unwrap();
    markers.mark(&message).await.expect("marking may be repeated");
    markers.clear(message.message_id).await.unwrap();
    markers.clear(message.message_id).await.expect("clearing may be repeated");
}

/// [`FailedStore`].
pub async fn failed_store(store: &impl FailedStore) {
    let key = format!("records/{}", samples::record_id().archive_key());
    let content = Bytes::from_static(b"kept");
    let reference = store.keep(&key, content.clone()).await.unwrap();
    assert_eq!(reference.key, key);
    assert_eq!(store.keep(&key, content).await.expect("keeping may be repeated"), reference);
}

/// [`Workflow`].
pub async fn workflow(workflow: &impl Workflow) {
    let message = samples::message(b"payload");
    workflow.start(&message).await.unwrap();
    workflow.start(&message).await.expect("starting may be repeated");
}

/// A failure of `message` at the archive stage.
pub fn failure_of(message: &InternalMessage) -> FailureSummary {
    let failures = vec![StageFailure {
        stage: "archive".to_owned(),
        error_name: ErrorName::AccessDenied.as_str().to_owned(),
        cause: "denied".to_owned(),
        tries: 1,
    }];
    let mut failure = FailureSummary::new(failures, 1, now(), Some("arn:aws:states:::x".to_owned()));
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
    table.complete(&done, times).await.unwrap();
    table.complete(&done, times).await.expect("completing may be repeated");
    let late = table.fail(&done, &failure_of(&done)).await.unwrap();
    assert_eq!(late, FailedItem::AlreadyCompleted, "a completed record stays completed");

    // A record whose metadata could not be stored still gets an item that says so, and can recover.
    let message = samples::message(b"never indexed");
    let failure = failure_of(&message);
    assert_eq!(table.fail(&message, &failure).await.unwrap(), FailedItem::Marked);
    assert_eq!(table.fail(&message, &failure).await.expect("failing may be repeated"), FailedItem::Marked);
    let reference = table.put_received(&message, now()).await.expect("a failed record may run again");
    table.complete(&completed(message, reference), times).await.unwrap();
}
