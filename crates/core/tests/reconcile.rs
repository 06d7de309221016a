//! What reconcile does about every kind of record that has not reached its end.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::time::Duration;

use custody_core::{
    clock::Clock as _,
    error::ErrorName,
    message::InternalMessage,
    ports::{Outcome, PayloadCache as _, PendingMarkers as _, RecordTable as _, Workflow as _},
    record_id::RecordId,
    run::Run,
    stages::{
        failure::Explanation,
        reconcile::{Reconcile, Report, Settings, ended},
    },
};
use custody_test_support::{
    contract,
    doubles::{MemoryCache, MemoryFailureHandler, MemoryMarkers, MemoryTable, MemoryWorkflow},
    samples::{self, TestClock},
};

const MINUTE_MS: i64 = 60_000;

struct World {
    cache: MemoryCache,
    markers: MemoryMarkers,
    table: MemoryTable,
    workflow: MemoryWorkflow,
    failure_handler: MemoryFailureHandler,
    clock: TestClock,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        Self {
            cache: MemoryCache::default(),
            markers: MemoryMarkers::default(),
            table: MemoryTable::default(),
            workflow: MemoryWorkflow::default(),
            failure_handler: MemoryFailureHandler::default(),
            clock: TestClock::default(),
            settings: Settings {
                min_age: Duration::from_mins(2),
                budget: Duration::from_secs(40),
                concurrency: 8,
                max_outcomes: 600,
                max_pending: 100_000,
            },
        }
    }

    /// A record that is pending in the cache for five minutes.
    async fn pending(&self) -> InternalMessage {
        let id = RecordId::mint(
            custody_core::clock::Timestamp::from_unix_ms(self.clock.now().unix_ms() - 5 * MINUTE_MS).unwrap(),
        );
        let mut message = samples::message_of(id, b"payload");
        message.storage_context.redis_reference = Some((&self.cache).reference(id));
        (&self.cache).put(&message, &b"payload".into(), None).await.unwrap();
        message
    }

    /// The same, with an execution that came to this.
    async fn pending_with(&self, outcome: Outcome) -> InternalMessage {
        let message = self.pending().await;
        (&self.workflow).start(&message).await.unwrap();
        self.workflow.end(message.run(), outcome);
        message
    }

    async fn reconcile(&self) -> Report {
        self.try_to_reconcile().await.unwrap()
    }

    async fn try_to_reconcile(&self) -> Result<Report, ErrorName> {
        let stage = Reconcile {
            cache: &self.cache,
            markers: &self.markers,
            table: &self.table,
            workflow: &self.workflow,
            failure_handler: &self.failure_handler,
            clock: &self.clock,
            settings: self.settings,
        };
        stage.run().await.map_err(|error| error.name)
    }
}

fn ended(error: &str, cause: &str) -> Outcome {
    Outcome::Ended { execution_arn: "arn".to_owned(), error: error.to_owned(), cause: cause.to_owned() }
}

#[tokio::test]
async fn a_record_whose_workflow_never_started_is_started_once_it_is_old_enough() {
    let world = World::new();
    let message = world.pending().await;
    world.clock.advance_ms(-4 * MINUTE_MS);
    let report = world.reconcile().await;
    assert_eq!((report.pending, report.due), (1, 0), "ingest may be about to start it");
    assert!(world.workflow.started().is_empty());
    world.clock.advance_ms(4 * MINUTE_MS);
    let report = world.reconcile().await;
    assert_eq!((report.started, report.oldest_pending_age_seconds), (1, 300));
    assert_eq!(world.workflow.started(), std::slice::from_ref(&message));
    assert_eq!(world.reconcile().await.running, 1, "and then left alone");
    assert!(world.cache.is_pending(message.message_id));
}

#[tokio::test]
async fn a_record_in_the_archive_alone_is_started_from_its_marker() {
    let world = World::new();
    let message = samples::message(b"payload");
    (&world.markers).mark(&message).await.unwrap();
    world.clock.advance_ms(3 * MINUTE_MS);
    assert_eq!(world.reconcile().await.started, 1);
    assert_eq!(world.workflow.started(), std::slice::from_ref(&message));
    world.workflow.end(message.run(), Outcome::Succeeded);
    assert_eq!(world.reconcile().await.cleared, 1);
    assert!(world.markers.marked().is_empty());
}

#[tokio::test]
async fn what_is_at_its_end_is_cleared() {
    let world = World::new();
    world.pending_with(Outcome::Succeeded).await;
    world.pending_with(ended("AccessDenied", ended::HANDLED)).await;
    assert_eq!(
        world.reconcile().await.cleared,
        2,
        "a stage's error is the end only after the failure function"
    );
    assert!(world.failure_handler.handled().is_empty());
    assert_eq!(world.reconcile().await.pending, 0);
}

#[tokio::test]
async fn what_the_table_calls_complete_costs_no_question() {
    let world = World::new();
    for _ in 0..250 {
        let message = world.pending_with(Outcome::Running).await;
        (&world.table).put_received(&message, world.clock.now()).await.unwrap();
        let times = custody_core::ports::CompletionTimes {
            archived_at: world.clock.now(),
            completed_at: world.clock.now(),
        };
        (&world.table).complete(&message, times).await.unwrap();
    }
    assert_eq!(world.reconcile().await.cleared, 250);
    assert_eq!(world.workflow.questions(), 0);
}

#[tokio::test]
async fn an_execution_that_ended_without_the_failure_function_gets_it_now() {
    let receipts = r#"{"failures":[{"stage":"archive","errorName":"AccessDenied","cause":"denied"}],"archive":null,"metadata":null}"#;
    for (error, cause, stage, name, explanation) in [
        (ended::FAILURE_NOT_HANDLED, receipts, "archive", "AccessDenied", Explanation::WhenFinished),
        (
            ended::FAILURE_NOT_HANDLED,
            "cut off",
            "workflow",
            ended::FAILURE_NOT_HANDLED,
            Explanation::WhenFinished,
        ),
        (ended::FAILURE_UNFINISHED, receipts, "archive", "AccessDenied", Explanation::Given),
        (ended::TIMED_OUT, "", "workflow", ended::TIMED_OUT, Explanation::WhenFinished),
        (
            "States.Runtime",
            "no state can catch this",
            "workflow",
            "States.Runtime",
            Explanation::WhenFinished,
        ),
        (ended::ABORTED, "", "workflow", ended::ABORTED, Explanation::WhenFinished),
    ] {
        let world = World::new();
        let message = world.pending_with(ended(error, cause)).await;
        assert_eq!(world.reconcile().await.failed, 1, "{error}");
        let handled = world.failure_handler.handled();
        let failed = &handled[0];
        assert_eq!(failed.message, message, "{error}");
        assert_eq!(
            (failed.failures[0].stage.as_str(), failed.failures[0].error_name.as_str()),
            (stage, name)
        );
        assert_eq!(failed.explanation, explanation, "{error}");
        assert!(!world.cache.is_pending(message.message_id), "{error}");
    }
}

#[tokio::test]
async fn a_failure_function_that_cannot_be_had_leaves_the_record_pending() {
    let world = World::new();
    let message = world.pending_with(ended(ended::TIMED_OUT, "")).await;
    world.failure_handler.fail_with(Some(ErrorName::FailureFunctionUnavailable));
    assert_eq!(world.reconcile().await.postponed, 1);
    world.failure_handler.fail_with(Some(ErrorName::AccessDenied));
    assert_eq!(world.reconcile().await.stuck, 1);
    assert!(world.cache.is_pending(message.message_id));
    world.failure_handler.fail_with(None);
    assert_eq!(world.reconcile().await.failed, 1);
}

#[tokio::test]
async fn an_entry_that_a_later_run_has_overtaken_goes_and_the_later_run_stays() {
    let world = World::new();
    let message = world.pending_with(ended("AccessDenied", ended::HANDLED)).await;
    let second = samples::redriven(message.clone());
    (&world.cache).put(&second, &b"payload".into(), None).await.unwrap();
    world.clock.advance_ms(30 * MINUTE_MS);
    let report = world.reconcile().await;
    assert_eq!((report.cleared, report.started), (1, 1));
    assert_eq!(world.cache.pending_messages(), std::slice::from_ref(&second));
    // And where the table knows that the later run failed, too.
    (&world.table).fail(&second, &contract::failure_of(&second)).await.unwrap();
    world.cache.plant_pending(message.run(), message.received_at);
    world.reconcile().await;
    assert_eq!(world.cache.pending_messages(), [second]);
}

#[tokio::test]
async fn a_throttled_step_functions_is_left_in_peace_until_the_next_run() {
    let mut world = World::new();
    world.settings.concurrency = 1;
    for _ in 0..90 {
        world.pending().await;
    }
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    assert_eq!(world.reconcile().await.postponed, 90);
    world.workflow.fail_with(None);
    assert_eq!(world.reconcile().await.started, 90);
}

#[tokio::test]
async fn only_so_many_outcomes_are_asked_for_in_one_run_and_all_in_the_end() {
    let mut world = World::new();
    world.settings.max_outcomes = 10;
    for _ in 0..35 {
        world.pending_with(Outcome::Succeeded).await;
    }
    for cleared in [10, 10, 10, 5] {
        let report = world.reconcile().await;
        assert_eq!(report.cleared, cleared);
        world.clock.advance_ms(MINUTE_MS);
    }
    assert_eq!(world.reconcile().await.pending, 0);
}

#[tokio::test]
async fn a_backlog_of_100_000_is_worked_through_in_bounded_runs() {
    let mut world = World::new();
    world.settings.budget = Duration::from_secs(40);
    let old = world.clock.now();
    for _ in 0..100_000 {
        let message = samples::message_of(RecordId::mint(old), b"");
        (&world.cache).put(&message, &b"".into(), None).await.unwrap();
    }
    world.clock.advance_ms(5 * MINUTE_MS);
    let mut started = 0;
    for run in 0.. {
        // Every look at the clock costs time here, as every batch does there.
        let clock = SlowClock { clock: &world.clock, step_ms: 2 };
        let stage = Reconcile {
            cache: &world.cache,
            markers: &world.markers,
            table: &world.table,
            workflow: &world.workflow,
            failure_handler: &world.failure_handler,
            clock,
            settings: world.settings,
        };
        let report = stage.run().await.unwrap();
        assert_eq!(report.pending, 100_000);
        assert_eq!(report.started + report.running + report.postponed + report.not_reached, report.due);
        started += report.started;
        if started == 100_000 {
            assert!(run > 2, "one run would have taken all: the budget does not hold");
            return;
        }
        assert!(run < 60, "{started} of 100000 after {run} runs: some never come to their turn");
    }
}

/// A clock on which time passes by looking at it.
#[derive(Debug)]
struct SlowClock<'a> {
    clock: &'a TestClock,
    step_ms: i64,
}

impl custody_core::clock::Clock for SlowClock<'_> {
    fn now(&self) -> custody_core::clock::Timestamp {
        self.clock.advance_ms(self.step_ms);
        self.clock.now()
    }
}

#[tokio::test]
async fn a_clock_that_went_wrong_hides_no_record() {
    let world = World::new();
    let message = world.pending().await;
    // Now an hour before the record was taken.
    world.clock.advance_ms(-60 * MINUTE_MS);
    assert_eq!(world.reconcile().await.started, 1);
    assert!(world.cache.is_pending(message.message_id));
}

#[tokio::test]
async fn one_store_that_cannot_be_seen_does_not_hide_the_other() {
    let world = World::new();
    let message = samples::message(b"payload");
    (&world.markers).mark(&message).await.unwrap();
    world.clock.advance_ms(3 * MINUTE_MS);
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let report = world.reconcile().await;
    assert_eq!((report.started, report.errors), (1, 1));
    world.markers.fail_with(Some(ErrorName::PendingStoreUnavailable));
    assert_eq!(world.try_to_reconcile().await, Err(ErrorName::CacheUnavailable));
}

#[tokio::test]
async fn a_pending_entry_without_a_message_is_cleared_only_at_its_end() {
    let world = World::new();
    let message = world.pending_with(Outcome::Running).await;
    world.cache.expire(message.message_id);
    assert_eq!(world.reconcile().await.running, 1);
    world.workflow.end(message.run(), ended(ended::ABORTED, ""));
    assert_eq!(world.reconcile().await.stuck, 1, "it cannot be brought to an end, and is not forgotten");
    world.workflow.end(message.run(), Outcome::Succeeded);
    assert_eq!(world.reconcile().await.cleared, 1);

    world.cache.plant_pending(Run::first(samples::record_id()), message.received_at);
    assert_eq!(world.reconcile().await.stuck, 1);
}

#[tokio::test]
async fn two_copies_at_once_start_each_record_once() {
    let world = World::new();
    for _ in 0..300 {
        world.pending().await;
    }
    let (one, other) = tokio::join!(world.reconcile(), world.reconcile());
    assert_eq!(one.started + other.started, 300);
    assert_eq!(world.workflow.started().len(), 300);
}
