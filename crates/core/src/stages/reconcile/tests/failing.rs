//! Tests of failed records: pending steps, automatic redrives, decisions.

use super::*;
use crate::open_record::FailureStep;

#[tokio::test]
async fn a_transient_failure_is_redriven_when_it_is_due_and_another_waits_for_a_person() {
    let world = World::default();
    let (transient, denied) = (accepted(&world).await, accepted(&world).await);
    let stage = world.failure(POLICY);
    stage.run(failure(&transient.message, "archive", "CacheUnavailable")).await.unwrap();
    stage.run(failure(&denied.message, "archive", "AccessDenied")).await.unwrap();
    let report = reconcile(&world).await;
    assert_eq!(report.failed, 2);
    advance(&world, Duration::from_secs(30));
    // The time before a redrive is random, from none at all to 30 s.
    assert_eq!(report.redriven + reconcile(&world).await.redriven, 1);
    let open = world.open_records.get(transient.id()).unwrap();
    assert_eq!((open.attempt().number(), &open.state), (2, &OpenState::InProgress));
    assert_eq!(open.message.history().len(), 1);
    assert_eq!(world.workflow.names(), [open.attempt().execution_name(1)]);
    advance(&world, Duration::from_hours(7));
    let report = reconcile(&world).await;
    assert_eq!((report.undecided, report.failed), (1, 1), "no expiry hides a failure");
    assert!(report.oldest_failed_age_seconds >= 7 * 3600);
}

#[tokio::test]
async fn a_failure_with_pending_steps_is_handed_to_the_failure_function_again() {
    let world = World::default();
    let record = accepted(&world).await;
    world.topic.fail_with(Some(ErrorName::TopicUnavailable));
    world.failure(POLICY).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    world.topic.fail_with(None);
    advance(&world, FIRST_LOOK);
    assert_eq!(reconcile(&world).await.failures_handled, 1);
    assert_eq!(world.failure_handler.handled()[0].message.message_id, record.id());
}

#[tokio::test]
async fn a_failed_record_whose_item_was_lost_gets_its_item_again() {
    let world = World::default();
    let record = accepted(&world).await;
    world.failure(POLICY).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    world.record_table.lose_all_but(|_| false);
    advance(&world, Duration::from_hours(7));
    reconcile(&world).await;
    let handed = world.failure_handler.handled();
    assert_eq!(handed.len(), 1, "the failure function writes the item");
    let open = world.open_records.get(record.id()).unwrap();
    assert!(
        matches!(open.state, OpenState::Failed { pending_steps, .. } if pending_steps == [FailureStep::Item])
    );
    world.failure(POLICY).run(handed[0].clone()).await.unwrap();
    assert_eq!(world.record_table.item(record.id()).unwrap().status, "FAILED");
    assert_eq!(world.dead_letters.all().len(), 1, "nobody is told again");
}

#[tokio::test]
async fn a_failure_is_told_although_a_person_has_decided_meanwhile() {
    let world = World::default();
    let record = accepted(&world).await;
    world.topic.fail_with(Some(ErrorName::TopicUnavailable));
    let stage = world.failure(POLICY);
    assert!(!stage.run(failure(&record.message, "archive", "AccessDenied")).await.unwrap().finished);
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    world.record_table.discard(record.attempt(), &discard).await.unwrap();
    advance(&world, MAX_LOOK_INTERVAL);
    reconcile(&world).await;
    assert_eq!(world.failure_handler.handled().len(), 1, "the pending announcement comes first");
    assert!(world.open_records.get(record.id()).is_some());
}

#[tokio::test]
async fn automatic_redrives_are_within_the_budget_of_starts() {
    let world = World::default();
    let settings = Settings { max_starts: 2, ..SETTINGS };
    for _ in 0..5 {
        let record = accepted(&world).await;
        world.failure(POLICY).run(failure(&record.message, "archive", "ArchiveUnavailable")).await.unwrap();
    }
    advance(&world, Duration::from_hours(1));
    let report = world.reconcile(settings).run().await.unwrap();
    assert_eq!((report.redriven, report.postponed), (2, 3));
    assert_eq!(world.workflow.names().len(), 2);
}
