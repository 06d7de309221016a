//! What becomes of dead letters that are redriven.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use custody_core::{
    clock::Clock as _,
    dead_letter::{DeadLetter, StageFailure},
    digest::Sha256,
    error::ErrorName,
    message::InternalMessage,
    ports::{CompletionTimes, FailedStore as _, PayloadCache as _, RecordTable as _},
    run::Run,
    stages::{
        failure::{Explanation, FailedRecord, Failure, FailureInput, RedrivePolicy},
        redrive::{Redrive, Redriven},
    },
};
use custody_test_support::{
    doubles::{
        MemoryArchive, MemoryCache, MemoryDeadLetters, MemoryFailedStore, MemoryMarkers, MemoryNotifier,
        MemoryRedrives, MemoryTable, MemoryWorkflow,
    },
    samples::{self, TestClock},
};
use serde_json::{Value, json};

const PAYLOAD: &[u8] = b"hello, custody";

struct World {
    cache: MemoryCache,
    archive: MemoryArchive,
    markers: MemoryMarkers,
    table: MemoryTable,
    workflow: MemoryWorkflow,
    failed_store: MemoryFailedStore,
    dead_letters: MemoryDeadLetters,
    redrives: MemoryRedrives,
    notifier: MemoryNotifier,
    clock: TestClock,
    policy: RedrivePolicy,
}

impl World {
    fn new() -> Self {
        Self {
            cache: MemoryCache::default(),
            archive: MemoryArchive::default(),
            markers: MemoryMarkers::default(),
            table: MemoryTable::default(),
            workflow: MemoryWorkflow::default(),
            failed_store: MemoryFailedStore::default(),
            dead_letters: MemoryDeadLetters::default(),
            redrives: MemoryRedrives::default(),
            notifier: MemoryNotifier::default(),
            clock: TestClock::default(),
            policy: RedrivePolicy { automatic: false, max_attempts: 3 },
        }
    }

    fn stage(
        &self,
    ) -> Redrive<
        &MemoryCache,
        &MemoryArchive,
        &MemoryMarkers,
        &MemoryTable,
        &MemoryFailedStore,
        &MemoryWorkflow,
        &MemoryDeadLetters,
        &TestClock,
    > {
        Redrive {
            cache: &self.cache,
            archive: &self.archive,
            markers: &self.markers,
            table: &self.table,
            failed_store: &self.failed_store,
            workflow: &self.workflow,
            dead_letters: &self.dead_letters,
            clock: &self.clock,
            policy: self.policy,
        }
    }

    async fn redrive(&self, letter: DeadLetter) -> Redriven {
        self.stage().redrive(letter, false).await.unwrap()
    }

    /// A run of a record that failed: its letter.
    async fn fail(&self, message: &InternalMessage, error_name: &str) -> DeadLetter {
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
                stage: "archive".to_owned(),
                error_name: error_name.to_owned(),
                cause: "it broke".to_owned(),
                tries: 1,
            }],
            execution_arn: Some(format!("arn:{}", message.run())),
            explanation: Explanation::Now,
        };
        failure.run(FailureInput::Record(Box::new(record))).await.unwrap();
        self.dead_letters
            .take()
            .pop()
            .or_else(|| self.redrives.scheduled().pop().map(|(letter, _)| letter))
            .unwrap()
    }

    /// A record that has failed once.
    async fn failed(&self) -> (InternalMessage, DeadLetter) {
        let mut message = samples::message(PAYLOAD);
        message.storage_context.redis_reference = Some((&self.cache).reference(message.message_id));
        (&self.cache).put(&message, &PAYLOAD.into(), None).await.unwrap();
        let letter = self.fail(&message, "AccessDenied").await;
        (message, letter)
    }
}

fn remark(redriven: Redriven) -> String {
    let Redriven::PutBack(remark) = redriven else { panic!("{redriven:?}") };
    remark
}

#[tokio::test]
async fn a_record_runs_again_under_its_id_with_its_bytes_and_its_history() {
    let world = World::new();
    let (message, letter) = world.failed().await;
    let id = message.message_id;
    // The cache forgets the payload; the failed-records store does not.
    world.cache.expire(id);
    world.clock.advance_ms(3_600_000);
    let run = Run::new(id, 2);
    assert_eq!(world.redrive(letter.clone()).await, Redriven::Running(run));
    assert_eq!((&world.cache).payload(id).await.unwrap().unwrap().bytes, PAYLOAD);
    let started = world.workflow.started().pop().unwrap();
    assert_eq!(started.run(), run);
    assert!(started.storage_context.redis_reference.is_some());
    assert_eq!(started.pending_since(), world.clock.now(), "its age counts from now");
    assert!(world.cache.is_pending(id));

    // Delivered twice, it is one run.
    assert_eq!(world.redrive(letter).await, Redriven::Running(run));
    assert_eq!(world.workflow.started().len(), 1);

    // Failing again, it comes back with what was before.
    let letter = world.fail(&started, "ArchiveUnavailable").await;
    assert_eq!((letter.failure.attempt, letter.parked), (2, false));
    assert_eq!(letter.history.len(), 1);
    let past = &letter.history[0];
    assert_eq!((past.attempt, past.error_name.as_str()), (1, "AccessDenied"));
    assert_eq!(past.execution_arn.as_deref(), Some(&*format!("arn:{id}")));
}

#[tokio::test]
async fn an_archived_record_runs_again_without_its_payload_moving() {
    let world = World::new();
    let (message, letter) = world.failed().await;
    world.archive.plant(&message.message_id.archive_key(), PAYLOAD);
    world.cache.expire(message.message_id);
    assert!(matches!(world.redrive(letter).await, Redriven::Running(_)));
    let started = world.workflow.started().pop().unwrap();
    assert!(started.storage_context.persistence.s3 && started.storage_context.redis_reference.is_none());
    assert_eq!(world.markers.marked(), [message.message_id]);
}

#[tokio::test]
async fn without_a_cache_the_payload_goes_to_the_archive() {
    let world = World::new();
    let (message, letter) = world.failed().await;
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    assert!(matches!(world.redrive(letter).await, Redriven::Running(_)));
    assert_eq!(world.archive.objects()[&message.message_id.archive_key()], PAYLOAD);
    assert_eq!(world.markers.marked(), [message.message_id]);
}

#[tokio::test]
async fn a_record_that_is_complete_is_left_alone() {
    let world = World::new();
    let (message, letter) = world.failed().await;
    let times = CompletionTimes { archived_at: world.clock.now(), completed_at: world.clock.now() };
    (&world.table).complete(&message, times).await.unwrap();
    assert_eq!(world.redrive(letter).await, Redriven::AlreadyCompleted);
    assert!(world.workflow.started().is_empty() && world.dead_letters.letters().is_empty());
}

#[tokio::test]
async fn a_letter_that_a_later_run_superseded_or_somebody_discarded_is_left_alone() {
    let world = World::new();
    let (message, letter) = world.failed().await;
    world.fail(&samples::redriven(message), "AccessDenied").await;
    assert_eq!(world.redrive(letter).await, Redriven::Superseded);

    let (message, letter) = world.failed().await;
    world.table.discard(message.message_id);
    assert_eq!(world.redrive(letter).await, Redriven::Discarded);
    assert!(world.workflow.started().is_empty());
}

#[tokio::test]
async fn after_the_last_redrive_a_record_is_parked_and_only_force_moves_it() {
    let world = World::new();
    let (_, mut letter) = world.failed().await;
    for attempt in 2..=4 {
        assert!(!letter.parked, "{attempt}");
        assert!(matches!(world.redrive(letter).await, Redriven::Running(_)), "{attempt}");
        let started = world.workflow.started().pop().unwrap();
        assert_eq!(started.run().attempt(), attempt);
        letter = world.fail(&started, "AccessDenied").await;
    }
    assert!(letter.parked);
    assert!(remark(world.redrive(letter.clone()).await).contains("--force"));
    let back = world.dead_letters.take().pop().unwrap();
    assert!(back.parked && back.unfinished[0].contains("parked"));
    assert_eq!(back.history.len(), 3);
    let forced = world.stage().redrive(back, true).await.unwrap();
    assert_eq!(forced, Redriven::Running(Run::new(letter.message_id.unwrap(), 5)));
}

#[tokio::test]
async fn a_letter_whose_payload_is_gone_comes_back_and_says_so() {
    let world = World::new();
    let (message, letter) = world.failed().await;
    let gone = World::new();
    assert!(remark(gone.redrive(letter.clone()).await).contains("PayloadMissing"));
    assert_eq!(gone.dead_letters.letters().len(), 1);

    // Other bytes under its keys are not its payload.
    world.cache.corrupt(message.message_id, b"something else");
    world.archive.plant(&message.message_id.archive_key(), b"something else");
    assert!(remark(world.redrive(letter).await).contains("ArchiveConflict"));
    assert!(world.workflow.started().is_empty());
}

#[tokio::test]
async fn a_store_that_is_away_leaves_the_letter_on_the_redrive_queue() {
    let world = World::new();
    let (_, letter) = world.failed().await;
    for name in ["table", "archive", "failed store"] {
        match name {
            "table" => world.table.fail_with(Some(ErrorName::TableUnavailable)),
            "archive" => world.archive.fail_with(Some(ErrorName::ArchiveUnavailable)),
            _ => world.failed_store.fail_with(Some(ErrorName::FailedStoreUnavailable)),
        }
        world.stage().redrive(letter.clone(), false).await.expect_err(name);
        world.table.fail_with(None);
        world.archive.fail_with(None);
        world.failed_store.fail_with(None);
        assert!(world.dead_letters.letters().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn of_a_batch_only_what_was_not_dealt_with_stays() {
    let world = World::new();
    let (_, good) = world.failed().await;
    let mut future = serde_json::to_value(&good).unwrap();
    future["schemaVersion"] = json!(2);
    let request = json!({
        "schemaVersion": 1, "messageID": null, "stage": "ingest", "kind": "Invalid", "errorName": "MalformedRequest",
        "reason": "no JSON", "attempt": 1, "failedAt": "2026-11-20T22:21:00.000Z", "executionArn": null,
        "payloadReference": null, "failures": [], "request": {"requestId": "r-1"},
    });
    let bodies = [
        ("good", serde_json::to_string(&good).unwrap()),
        ("not JSON", "hello".to_owned()),
        ("not ours", json!({"Records": []}).to_string()),
        ("of a later version", future.to_string()),
        ("a refused request", request.to_string()),
    ];
    let records: Vec<Value> = bodies
        .iter()
        .map(|(id, body)| json!({"messageId": id, "body": body, "messageAttributes": {}}))
        .collect();
    let event = serde_json::from_value(json!({"Records": records})).unwrap();
    let response = serde_json::to_value(world.stage().run(event).await).unwrap();
    assert_eq!(
        response,
        json!({"batchItemFailures": [
            {"itemIdentifier": "not JSON"}, {"itemIdentifier": "not ours"}, {"itemIdentifier": "of a later version"},
        ]})
    );
    assert_eq!(world.workflow.started().len(), 1);
    let back = world.dead_letters.take();
    assert_eq!(back.len(), 1, "a refused request goes back to the operator");
    assert!(back[0].unfinished[0].contains("no receipt"));
}

#[tokio::test]
async fn transient_failures_redrive_themselves_where_that_is_wanted_and_no_more_than_allowed() {
    let mut world = World::new();
    world.policy.automatic = true;
    let (message, _) = world.failed().await;
    assert!(world.redrives.scheduled().is_empty(), "AccessDenied needs a person");

    let mut message = message;
    for attempt in 1..=3 {
        let letter = world.fail(&message, "ArchiveUnavailable").await;
        let (scheduled, delay) = world.redrives.scheduled().pop().unwrap();
        assert_eq!(scheduled.failure.attempt, attempt);
        assert!(delay.as_secs() <= 30 << (attempt - 1));
        assert!(matches!(world.redrive(letter).await, Redriven::Running(_)));
        message = world.workflow.started().pop().unwrap();
    }
    let scheduled = world.redrives.scheduled().len();
    let letter = world.fail(&message, "ArchiveUnavailable").await;
    assert!(letter.parked, "the fourth failure waits for a person");
    assert_eq!(world.redrives.scheduled().len(), scheduled);
}

#[tokio::test]
async fn a_letter_stays_far_below_the_queues_limit_however_often_its_record_failed() {
    let world = World::new();
    let big = "\u{1}".repeat(6_000);
    let (message, mut letter) = world.failed().await;
    for failure in &mut letter.failure.failures {
        failure.cause.clone_from(&big);
    }
    letter.failure.reason = big;
    let mut attempts = 0;
    while attempts < 30 {
        let redriven = world.stage().redrive(letter.clone(), true).await.unwrap();
        assert!(matches!(redriven, Redriven::Running(_)), "{redriven:?}");
        letter = world.fail(world.workflow.started().last().unwrap(), "AccessDenied").await;
        attempts += 1;
    }
    assert_eq!(Sha256::of(PAYLOAD), message.payload.sha256);
    assert_eq!((letter.failure.attempt, letter.history.len()), (31, 10));
    assert!(serde_json::to_string(&letter).unwrap().len() < 128 * 1024);
}

#[tokio::test]
async fn every_event_of_the_redrive_queue_is_dealt_with_as_its_name_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/redrive");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let event = std::fs::read_to_string(&path).unwrap();
        let world = World::new();
        // The record's payload is where the failure function kept it.
        let body: Value = serde_json::from_str(&event).unwrap();
        let letter: Value =
            serde_json::from_str(body["Records"][0]["body"].as_str().unwrap()).unwrap_or_default();
        if let Ok(message) = serde_json::from_value::<InternalMessage>(letter["request"].clone()) {
            let key = format!("records/{}", message.message_id.archive_key());
            (&world.failed_store).keep(&key, bytes::Bytes::from_static(PAYLOAD)).await.unwrap();
        }
        let response = world.stage().run(serde_json::from_str(&event).unwrap()).await;
        let runs = name.starts_with("valid") || name.ends_with("with-force");
        let back = name.starts_with("parked") && !runs;
        assert_eq!(world.workflow.started().len(), usize::from(runs), "{name}");
        assert_eq!(world.dead_letters.letters().len(), usize::from(back), "{name}");
        assert_eq!(response.batch_item_failures.len(), usize::from(!runs && !back), "{name}");
        tried += 1;
    }
    assert!(tried >= 5, "{tried}");
}
