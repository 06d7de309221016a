//! Tests of the redrive stage: a failed record gets its next attempt exactly once.

use serde_json::json;

use crate::{
    clock::Clock as _,
    dead_letter::DeadLetter,
    error::ErrorName,
    open_record::{OpenRecord, OpenState},
    ports::{CompletionTimes, Discard, OpenRecords as _, RecordTable as _},
    redrive_policy::RedrivePolicy,
    sqs_event::SqsEvent,
    stages::{
        redrive::{FORCE_ATTRIBUTE, Redriven},
        scenarios::{accepted, failure},
    },
    testing::{
        samples,
        world::{POLICY, SETTINGS, World},
    },
};

const MANUAL: RedrivePolicy = RedrivePolicy { automatic: false, ..POLICY };

/// Makes a failed record, with its dead letter.
async fn failed(world: &World) -> (OpenRecord, DeadLetter) {
    let record = accepted(world).await;
    world.failure(MANUAL).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    (record, world.dead_letters.take().remove(0))
}

async fn redrive(world: &World, dead_letter: &DeadLetter, forced: bool) -> Redriven {
    world.redrive().redrive(dead_letter.clone(), forced).await.unwrap()
}

#[tokio::test]
async fn a_failed_record_gets_its_next_attempt_without_the_cache() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let next = record.attempt().next();
    assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::InProgress(next));
    let open = world.open_records.get(record.id()).unwrap();
    assert_eq!((open.attempt(), &open.state, open.starts), (next, &OpenState::InProgress, 1));
    assert_eq!(open.message.history()[0].error_name, "AccessDenied");
    assert_eq!(world.workflow.names(), [next.execution_name(1)]);
    // Archive reads the preserved payload.
    world.archive_stage().run(&open.message).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_that_is_delivered_again_finds_the_same_attempt() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    for _ in 0..3 {
        assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::InProgress(record.attempt().next()));
    }
    let copies = [world.redrive(), world.redrive()];
    for copy in &copies {
        copy.redrive(dead_letter.clone(), false).await.unwrap();
    }
    assert_eq!(world.workflow.names().len(), 1);
    assert_eq!(world.open_records.get(record.id()).unwrap().attempt(), record.attempt().next());

    // If the workflow does not recognize names, a second delivery starts nothing: reconcile would start the attempt.
    let express = World::default();
    express.workflow.forget_names();
    let (_, dead_letter) = failed(&express).await;
    redrive(&express, &dead_letter, false).await;
    redrive(&express, &dead_letter, false).await;
    assert_eq!((express.workflow.names().len(), express.workflow.repeated()), (1, 0));
}

#[tokio::test]
async fn a_record_that_was_redriven_before_its_start_could_be_made_is_reconciles_to_start() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    redrive(&world, &dead_letter, false).await;
    let open = world.open_records.get(record.id()).unwrap();
    assert_eq!(open.attempt(), record.attempt().next());
    assert!(open.look_at > world.clock.now());
}

#[tokio::test]
async fn a_dead_letter_of_a_record_that_has_moved_on_is_dropped() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    redrive(&world, &dead_letter, false).await;
    let second = world.open_records.get(record.id()).unwrap();
    world.failure(MANUAL).run(failure(&second.message, "archive", "AccessDenied")).await.unwrap();
    let newer = world.dead_letters.take().remove(0);
    redrive(&world, &newer, false).await;
    assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::Superseded);

    let (done, dead_letter) = failed(&world).await;
    let now = world.clock.now();
    world.record_table.put_received(&done.message, now).await.unwrap();
    let times = CompletionTimes { archived_at: now, completed_at: now };
    world.record_table.complete(&done.message, times).await.unwrap();
    world.open_records.close(done.attempt()).await.unwrap();
    assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::AlreadyCompleted);
}

#[tokio::test]
async fn a_discarded_record_stays_so_unless_a_person_insists_and_is_undecided_when_it_fails_again() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    world.record_table.discard(record.attempt(), &discard).await.unwrap();
    world.open_records.close(record.attempt()).await.unwrap();
    assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::Discarded);
    assert!(world.open_records.all().is_empty());

    assert_eq!(redrive(&world, &dead_letter, true).await, Redriven::InProgress(record.attempt().next()));
    let open = world.open_records.get(record.id()).unwrap();
    world.failure(MANUAL).run(failure(&open.message, "archive", "AccessDenied")).await.unwrap();
    assert!(matches!(world.open_records.get(record.id()).unwrap().state, OpenState::Failed { .. }));
    let states = world.record_table.states(&[record.id()]).await.unwrap();
    assert_eq!(states[&record.id()], crate::ports::ItemState::Failed { attempt: 2, discarded: None });
}

#[tokio::test]
async fn a_parked_record_and_a_rejected_request_come_back() {
    let world = World::default();
    let (record, mut dead_letter) = failed(&world).await;
    dead_letter.failure.attempt = 4;
    assert!(
        matches!(redrive(&world, &dead_letter, false).await, Redriven::ReturnedToDeadLetterQueue(remark) if remark.contains("--force"))
    );
    assert!(world.dead_letters.take()[0].parked);
    assert_eq!(world.open_records.get(record.id()).unwrap().attempt(), record.attempt());

    dead_letter.message_id = None;
    assert!(matches!(redrive(&world, &dead_letter, false).await, Redriven::ReturnedToDeadLetterQueue(_)));
}

#[tokio::test]
async fn a_dead_letter_of_an_attempt_that_has_not_failed_comes_back() {
    let world = World::default();
    let (_, dead_letter) = failed(&world).await;
    let other = accepted(&world).await;
    let mut request = dead_letter.request.clone();
    request["messageID"] = other.id().to_string().into();
    let foreign = DeadLetter { message_id: Some(other.id()), request, ..dead_letter };
    assert!(matches!(redrive(&world, &foreign, false).await, Redriven::ReturnedToDeadLetterQueue(_)));
    assert!(world.workflow.names().is_empty());
}

#[tokio::test]
async fn a_redrive_waits_until_the_failure_is_told() {
    let world = World::default();
    let record = accepted(&world).await;
    world.topic.fail_with(Some(ErrorName::TopicUnavailable));
    world.failure(MANUAL).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    let dead_letter = world.dead_letters.all().remove(0);
    world.open_records.note_redrive(record.attempt(), Some(world.clock.now())).await.unwrap();
    let outcome = world.redrive().redrive(dead_letter, false).await.unwrap();
    assert!(
        matches!(&outcome, Redriven::ReturnedToDeadLetterQueue(remark) if remark.contains("still pending")),
        "{outcome:?}"
    );
    let open = world.open_records.get(record.id()).unwrap();
    assert_eq!((open.attempt(), open.redrive_at), (record.attempt(), None), "no redrive waits any more");
}

#[tokio::test]
async fn a_record_that_was_discarded_a_moment_ago_is_not_redriven_unless_a_person_insists() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    world.record_table.discard(record.attempt(), &discard).await.unwrap();
    assert_eq!(
        redrive(&world, &dead_letter, false).await,
        Redriven::Discarded,
        "reconcile has not closed it yet"
    );
    assert_eq!(world.open_records.get(record.id()).unwrap().attempt(), record.attempt());
    assert_eq!(redrive(&world, &dead_letter, true).await, Redriven::InProgress(record.attempt().next()));
}

#[tokio::test]
async fn a_discarded_record_that_two_deliveries_insist_on_is_started_once() {
    for forgets_names in [false, true] {
        let world = World::default();
        if forgets_names {
            world.workflow.forget_names();
        }
        let (record, dead_letter) = failed(&world).await;
        let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
        world.record_table.discard(record.attempt(), &discard).await.unwrap();
        world.open_records.close(record.attempt()).await.unwrap();
        let deliveries = [redrive(&world, &dead_letter, true), redrive(&world, &dead_letter, true)];
        let outcomes = futures_util::future::join_all(deliveries).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Redriven::InProgress(record.attempt().next())));
        world.reconcile(SETTINGS).run().await.unwrap();
        assert_eq!(world.workflow.names(), [record.attempt().next().execution_name(1)]);
        assert_eq!(world.workflow.repeated(), 0);
    }
}

/// A batch of one message of the redrive queue.
fn batch(dead_letter: &DeadLetter, force: Option<&str>) -> SqsEvent {
    let attributes =
        force.map_or_else(|| json!({}), |force| json!({FORCE_ATTRIBUTE: {"stringValue": force}}));
    let message = json!({
        "messageId": "m-1", "body": json!(dead_letter).to_string(), "messageAttributes": attributes,
    });
    serde_json::from_value(json!({"Records": [message]})).unwrap()
}

#[tokio::test]
async fn only_the_attribute_force_with_the_value_true_forces_a_redrive() {
    for (force, is_redriven) in [(None, false), (Some("false"), false), (Some("true"), true)] {
        let world = World::default();
        let (record, mut dead_letter) = failed(&world).await;
        let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
        world.record_table.discard(record.attempt(), &discard).await.unwrap();
        world.open_records.close(record.attempt()).await.unwrap();
        dead_letter.parked = false;
        let response = world.redrive().run(batch(&dead_letter, force)).await;
        assert!(response.batch_item_failures.is_empty());
        assert_eq!(world.open_records.get(record.id()).is_some(), is_redriven, "{force:?}");
    }
}

#[tokio::test]
async fn a_second_delivery_starts_what_the_first_one_could_not() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    let next = record.attempt().next();
    assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::InProgress(next));
    world.workflow.fail_with(None);
    assert_eq!(redrive(&world, &dead_letter, false).await, Redriven::InProgress(next));
    assert_eq!(world.workflow.names(), [next.execution_name(1)]);
}

#[tokio::test]
async fn a_dead_letter_of_an_attempt_that_has_not_begun_comes_back() {
    let world = World::default();
    let (record, mut dead_letter) = failed(&world).await;
    dead_letter.failure.attempt = 2;
    let outcome = redrive(&world, &dead_letter, true).await;
    assert!(
        matches!(&outcome, Redriven::ReturnedToDeadLetterQueue(remark) if remark.contains("attempt 1 of the record has not failed")),
        "{outcome:?}"
    );
    assert_eq!(world.open_records.get(record.id()).unwrap().attempt(), record.attempt());
}

#[tokio::test]
async fn a_dead_letter_is_superseded_by_the_item_of_a_later_attempt() {
    let world = World::default();
    let (record, dead_letter) = failed(&world).await;
    redrive(&world, &dead_letter, false).await;
    let second = world.open_records.get(record.id()).unwrap();
    world.failure(MANUAL).run(failure(&second.message, "archive", "AccessDenied")).await.unwrap();
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    world.record_table.discard(second.attempt(), &discard).await.unwrap();
    world.open_records.close(second.attempt()).await.unwrap();
    assert_eq!(redrive(&world, &dead_letter, true).await, Redriven::Superseded);
}

#[tokio::test]
async fn a_dead_letter_with_the_message_of_another_record_reopens_nothing() {
    let world = World::default();
    let (record, mut dead_letter) = failed(&world).await;
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    world.record_table.discard(record.attempt(), &discard).await.unwrap();
    world.open_records.close(record.attempt()).await.unwrap();
    dead_letter.request["messageID"] = samples::record_id().to_string().into();
    let outcome = redrive(&world, &dead_letter, true).await;
    assert!(
        matches!(&outcome, Redriven::ReturnedToDeadLetterQueue(remark) if remark.contains("no message")),
        "{outcome:?}"
    );
    assert!(world.open_records.all().is_empty());
}
