//! What stages do when a store fails, a reply was lost, or they run again.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::fs;

use custody_core::{
    clock::Clock as _,
    dead_letter::StageFailure,
    error::ErrorName,
    message::InternalMessage,
    ports::{PayloadCache, RecordTable},
    proxy::ProxyResponse,
    receipt::{Durability, Receipt},
    record_id::RecordId,
    stages::{
        aggregate, archive,
        failure::{Explanation, FailedRecord, Failure, FailureInput, RedrivePolicy},
        ingest::Ingest,
        metadata,
    },
};
use custody_test_support::{
    doubles::{
        MemoryArchive, MemoryCache, MemoryDeadLetters, MemoryFailedStore, MemoryMarkers, MemoryNotifier,
        MemoryRedrives, MemorySalvage, MemoryTable, MemoryWorkflow,
    },
    samples::{self, TestClock},
};

const PAYLOAD: &[u8] = b"hello, custody";

/// All stores of a deployment, in memory.
#[derive(Default)]
struct World {
    cache: MemoryCache,
    archive: MemoryArchive,
    markers: MemoryMarkers,
    table: MemoryTable,
    workflow: MemoryWorkflow,
    salvage: MemorySalvage,
    failed_store: MemoryFailedStore,
    dead_letters: MemoryDeadLetters,
    redrives: MemoryRedrives,
    notifier: MemoryNotifier,
    clock: TestClock,
    policy: RedrivePolicy,
}

impl World {
    async fn ingest(&self) -> ProxyResponse {
        let event = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/ingest/valid-content-digest.json");
        let stage = Ingest {
            cache: &self.cache,
            archive: &self.archive,
            markers: &self.markers,
            workflow: &self.workflow,
            salvage: &self.salvage,
            clock: &self.clock,
        };
        stage.run(&fs::read(event).unwrap()).await
    }

    /// A record that ingest has cached.
    async fn cached(&self) -> InternalMessage {
        let mut message = samples::message(PAYLOAD);
        message.storage_context.redis_reference = Some((&self.cache).reference(message.message_id));
        (&self.cache).put(&message, &PAYLOAD.into(), None).await.unwrap();
        message
    }

    async fn archive(
        &self,
        message: &InternalMessage,
    ) -> Result<custody_core::receipt::ArchiveReceipt, ErrorName> {
        archive::run(&&self.cache, &&self.archive, &&self.clock, message).await.map_err(|error| error.name)
    }

    async fn fail(&self, message: &InternalMessage, stage: &str) -> Result<(), ErrorName> {
        let failure = Failure {
            cache: &self.cache,
            archive: &self.archive,
            markers: &self.markers,
            table: &self.table,
            failed_store: &self.failed_store,
            dead_letters: &self.dead_letters,
            redrives: &self.redrives,
            notifier: &self.notifier,
            clock: &self.clock,
            event_source: "urn:custody:test".to_owned(),
            policy: self.policy,
        };
        let record = FailedRecord {
            message: message.clone(),
            archive: None,
            metadata: None,
            failures: vec![StageFailure {
                stage: stage.to_owned(),
                error_name: "AccessDenied".to_owned(),
                cause: "denied".to_owned(),
                tries: 1,
            }],
            execution_arn: None,
            explanation: Explanation::Now,
        };
        failure.run(FailureInput::Record(Box::new(record))).await.map(drop).map_err(|error| error.name)
    }
}

fn receipt(answer: &ProxyResponse) -> Receipt {
    assert_eq!(answer.status_code, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_cache_that_refuses_makes_ingest_archive_the_record_itself() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let receipt = receipt(&world.ingest().await);
    let id = receipt.message_id;
    assert_eq!(receipt.durability, Durability::Archived);
    assert_eq!(world.archive.objects()[&id.archive_key()], PAYLOAD);
    assert_eq!(world.markers.marked(), [id]);
    let message = &world.workflow.started()[0];
    assert!(message.storage_context.persistence.s3 && message.storage_context.redis_reference.is_none());

    // The rest of its way does not touch the cache for it.
    let archived = world.archive(message).await.unwrap();
    let stored = metadata::run(&&world.table, &&world.clock, message).await.unwrap();
    let input = aggregate::AggregateInput { message: message.clone(), archive: archived, metadata: stored };
    aggregate::run(&&world.table, &&world.cache, &&world.markers, &&world.clock, input).await.unwrap();
    assert_eq!(world.table.item(id).unwrap().status, "COMPLETED");
    assert!(world.markers.marked().is_empty());
}

#[tokio::test]
async fn a_marker_that_cannot_be_written_means_no_receipt() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    world.markers.fail_with(Some(ErrorName::PendingStoreUnavailable));
    let answer = world.ingest().await;
    assert_eq!(answer.status_code, 503);
    assert!(world.workflow.started().is_empty());
}

#[tokio::test]
async fn without_any_store_the_producer_is_told_to_come_back_and_the_request_is_salvaged() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    let answer = world.ingest().await;
    assert_eq!((answer.status_code, answer.headers["Retry-After"].as_str()), (503, "5"));
    assert!(answer.body.contains("no-durable-store"));
    assert_eq!(world.salvage.requests().len(), 1);
    // A salvage that fails as well changes nothing for the producer.
    world.salvage.fail_with(Some(ErrorName::FailureFunctionUnavailable));
    assert_eq!(world.ingest().await.status_code, 503);
}

#[tokio::test]
async fn a_workflow_that_cannot_be_started_does_not_cost_the_producer_the_receipt() {
    let world = World::default();
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    let id = receipt(&world.ingest().await).message_id;
    assert!(world.cache.is_pending(id), "reconcile will find it");
}

#[tokio::test]
async fn a_retry_after_a_lost_reply_stores_one_object() {
    let world = World::default();
    let message = world.cached().await;
    let first = world.archive(&message).await.unwrap();
    // Late, when the cache has forgotten the payload.
    world.cache.expire(message.message_id);
    let late = world.archive(&message).await.unwrap();
    assert_eq!((first.s3_reference, first.sha256), (late.s3_reference, late.sha256));
    assert_eq!(world.archive.objects().len(), 1);
}

#[tokio::test]
async fn bytes_that_are_not_the_records_are_never_archived() {
    let world = World::default();
    let message = world.cached().await;
    world.cache.corrupt(message.message_id, b"something else");
    assert_eq!(world.archive(&message).await, Err(ErrorName::PayloadCorrupted));

    let message = world.cached().await;
    world.archive.plant(&message.message_id.archive_key(), b"something else");
    assert_eq!(world.archive(&message).await, Err(ErrorName::ArchiveConflict));
    world.cache.expire(message.message_id);
    assert_eq!(world.archive(&message).await, Err(ErrorName::ArchiveConflict));

    let message = world.cached().await;
    world.cache.expire(message.message_id);
    assert_eq!(world.archive(&message).await, Err(ErrorName::PayloadMissing));
}

#[tokio::test]
async fn a_failed_records_payload_is_kept_before_the_cache_lets_go() {
    let world = World::default();
    let message = world.cached().await;
    let id = message.message_id;
    world.fail(&message, "archive").await.unwrap();
    let key = format!("records/{}", id.archive_key());
    assert_eq!(world.failed_store.objects()[&key], PAYLOAD);
    let letter = &world.dead_letters.letters()[0];
    assert_eq!(letter.message_id, Some(id));
    assert_eq!(
        (letter.failure.stage.as_str(), letter.failure.error_name.as_str()),
        ("archive", "AccessDenied")
    );
    assert_eq!(letter.failure.payload_reference.as_ref().unwrap().key, key);
    assert!(letter.unfinished.is_empty());
    assert_eq!(world.notifier.published()[0].body["subject"], id.to_string());
    assert!(!world.cache.is_pending(id));
}

#[tokio::test]
async fn a_payload_that_cannot_be_kept_now_keeps_the_record_pending() {
    for broken in ["cache", "store"] {
        let world = World::default();
        let message = world.cached().await;
        let expected = if broken == "cache" {
            world.cache.fail_with(Some(ErrorName::CacheUnavailable));
            ErrorName::CacheUnavailable
        } else {
            world.failed_store.fail_with(Some(ErrorName::FailedStoreUnavailable));
            ErrorName::FailedStoreUnavailable
        };
        assert_eq!(world.fail(&message, "archive").await, Err(expected));
        assert!(world.dead_letters.letters().is_empty(), "{broken}");
        world.cache.fail_with(None);
        assert!(world.cache.is_pending(message.message_id), "{broken}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_about_a_failure_is_said_in_the_dead_letter_and_keeps_the_record_pending() {
    for (broken, remark) in [
        ("table", "could not be marked FAILED"),
        ("topic", "could not be announced"),
        ("failed store", "still only in the cache"),
    ] {
        let world = World::default();
        let message = world.cached().await;
        let id = message.message_id;
        let denied = Some(ErrorName::AccessDenied);
        match broken {
            "table" => world.table.fail_with(denied),
            "topic" => world.notifier.fail_with(denied),
            _ => world.failed_store.fail_with(denied),
        }
        world.fail(&message, "archive").await.unwrap();
        let letter = &world.dead_letters.letters()[0];
        assert!(letter.unfinished[0].contains(remark), "{broken}: {:?}", letter.unfinished);
        assert!(world.cache.is_pending(id), "{broken}: so that it is done again");
        if broken != "table" {
            assert_eq!(world.table.item(id).unwrap().status, "FAILED", "{broken}");
        }
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_asked_is_not_taken_for_an_empty_one() {
    let world = World::default();
    let message = world.cached().await;
    world.archive(&message).await.unwrap();
    world.cache.expire(message.message_id);
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    assert_eq!(world.fail(&message, "archive").await, Err(ErrorName::ArchiveUnavailable));

    world.archive.fail_with(Some(ErrorName::AccessDenied));
    world.fail(&message, "archive").await.unwrap();
    let letter = &world.dead_letters.letters()[0];
    assert!(letter.unfinished[0].contains("could not be asked"), "{:?}", letter.unfinished);
    assert!(world.cache.is_pending(message.message_id));
}

#[tokio::test]
async fn a_completed_record_whose_announcement_failed_stays_completed() {
    let world = World::default();
    let message = world.cached().await;
    let id = complete(&world, &message).await;
    world.fail(&message, "announce-completed").await.unwrap();
    assert_eq!(world.table.item(id).unwrap().status, "COMPLETED");
    assert!(world.dead_letters.letters()[0].unfinished[0].contains("COMPLETED"));
    assert!(world.notifier.published().is_empty(), "nobody is told that a completed record failed");
}

async fn complete(world: &World, message: &InternalMessage) -> RecordId {
    let archived = world.archive(message).await.unwrap();
    let stored = metadata::run(&&world.table, &&world.clock, message).await.unwrap();
    let input = aggregate::AggregateInput { message: message.clone(), archive: archived, metadata: stored };
    aggregate::run(&&world.table, &&world.cache, &&world.markers, &&world.clock, input).await.unwrap();
    message.message_id
}

#[tokio::test]
async fn a_payload_that_is_nowhere_is_admitted() {
    let world = World::default();
    let message = world.cached().await;
    world.cache.expire(message.message_id);
    world.fail(&message, "archive").await.unwrap();
    let letter = &world.dead_letters.letters()[0];
    assert!(letter.failure.payload_reference.is_none());
    assert!(letter.unfinished[0].contains("only the producer"), "{:?}", letter.unfinished);
}

#[tokio::test]
async fn aggregate_completes_although_the_cache_is_gone() {
    let world = World::default();
    let message = world.cached().await;
    let archived = world.archive(&message).await.unwrap();
    (&world.table).put_received(&message, world.clock.now()).await.unwrap();
    let stored = metadata::run(&&world.table, &&world.clock, &message).await.unwrap();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let input = aggregate::AggregateInput { message: message.clone(), archive: archived, metadata: stored };
    aggregate::run(&&world.table, &&world.cache, &&world.markers, &&world.clock, input).await.unwrap();
    assert_eq!(world.table.item(message.message_id).unwrap().status, "COMPLETED");
}
