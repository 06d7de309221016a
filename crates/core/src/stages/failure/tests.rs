//! Tests of the failure stage: it secures the payload before it reports the failure, confirms the loss of a payload at
//! a second look, and lists pending steps.

use std::{
    future::{Future as _, poll_fn},
    task::Poll,
    time::Duration,
};

use crate::{
    clock::Clock as _,
    error::ErrorName,
    message::InternalMessage,
    open_record::{FailureStep, OpenState},
    ports::{CompletionTimes, OpenRecords as _, PayloadCache as _, RecordTable as _},
    redrive_policy::{PATIENCE, RedrivePolicy},
    stages::{
        failure::LOSS_CONFIRMATION,
        scenarios::{PAYLOAD, accepted, failure},
    },
    testing::world::{POLICY, World},
};

/// Makes a store fail, or lets it succeed again.
type Fail<'a> = &'a dyn Fn(Option<ErrorName>);

const MANUAL: RedrivePolicy = RedrivePolicy { automatic: false, ..POLICY };

async fn fail(world: &World, message: &InternalMessage, error: &str) -> bool {
    world.failure(MANUAL).run(failure(message, "archive", error)).await.unwrap().finished
}

fn advance(world: &World, duration: Duration) {
    world.clock.advance_ms(i64::try_from(duration.as_millis()).unwrap());
}

#[tokio::test]
async fn a_failed_record_is_preserved_marked_told_of_and_stays_open() {
    let world = World::default();
    let record = accepted(&world).await;
    let id = record.id();
    assert!(fail(&world, &record.message, "AccessDenied").await);
    assert_eq!(world.failed_store.objects()[&id.preserved_key()], PAYLOAD);
    assert!(!world.cache.holds(id), "what is preserved leaves the cache");
    assert_eq!(world.record_table.item(id).unwrap().status, "FAILED");
    assert_eq!((world.dead_letters.all().len(), world.topic.published().len()), (1, 1));
    let open = world.open_records.get(id).expect("a decision is pending");
    assert!(matches!(&open.state, OpenState::Failed { pending_steps, .. } if pending_steps.is_empty()));

    assert!(fail(&world, &record.message, "AccessDenied").await, "handling may be repeated");
    assert_eq!((world.dead_letters.all().len(), world.topic.published().len()), (1, 1), "and reports once");
}

#[tokio::test]
async fn a_failure_whose_process_dies_at_once_is_looked_at_again_and_reports_where_the_payload_is() {
    let world = World::default();
    let record = accepted(&world).await;
    let id = record.id();
    let turn = crate::ports::Turn::until(world.clock.now());
    assert!(world.open_records.take_turn(&record, turn).await.unwrap());
    let stage = world.failure(MANUAL);
    let mut handling = Box::pin(stage.run(failure(&record.message, "metadata", "AccessDenied")));
    let is_failed = || matches!(world.open_records.get(id).unwrap().state, OpenState::Failed { .. });
    while !is_failed() {
        let is_done = poll_fn(|context| Poll::Ready(handling.as_mut().poll(context).is_ready())).await;
        assert!(!is_done, "the open record fails before the steps are done");
    }
    drop(handling);
    let open = world.open_records.get(id).unwrap();
    assert_eq!((open.look_at, open.looks), (world.clock.now().after(Duration::from_mins(2)), 0));
    let context = &open.message.storage_context;
    assert!(context.redis_reference.is_none() && context.s3_reference.is_none());
    let OpenState::Failed { failure, pending_steps } = &open.state else { unreachable!() };
    assert_eq!(failure.payload_reference.as_ref().unwrap().key, id.preserved_key());
    assert_eq!(pending_steps.len(), 4, "item, unlink, dead letter, announcement");
}

#[tokio::test]
async fn nothing_tells_of_a_failure_before_the_payload_is_secure() {
    let world = World::default();
    let record = accepted(&world).await;
    world.failed_store.fail_with(Some(ErrorName::FailedStoreUnavailable));
    let error =
        world.failure(MANUAL).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap_err();
    assert_eq!(error.name, ErrorName::FailedStoreUnavailable);
    assert_eq!(world.open_records.get(record.id()).unwrap().state, OpenState::InProgress);
    assert!(world.record_table.item(record.id()).is_none() && world.dead_letters.all().is_empty());
    assert!(world.cache.holds(record.id()));
}

#[tokio::test]
async fn a_payload_counts_as_lost_only_at_a_second_look_longer_after_the_first_than_a_failover_takes() {
    let world = World::default();
    let record = accepted(&world).await;
    let id = record.id();
    world.cache.lose_everything();
    assert!(!fail(&world, &record.message, "PayloadMissing").await, "the first look decides nothing");
    let open = world.open_records.get(id).unwrap();
    assert_eq!((open.state, open.missing_since), (OpenState::InProgress, Some(world.clock.now())));
    assert_eq!(open.look_at, world.clock.now().after(LOSS_CONFIRMATION), "it is looked for again in time");
    advance(&world, LOSS_CONFIRMATION.saturating_sub(Duration::from_secs(1)));
    assert!(!fail(&world, &record.message, "PayloadMissing").await, "too early");
    assert!(world.dead_letters.all().is_empty());

    advance(&world, Duration::from_secs(1));
    assert!(fail(&world, &record.message, "PayloadMissing").await);
    let dead_letters = world.dead_letters.all();
    assert_eq!((dead_letters.len(), dead_letters[0].failure.error_name.as_str()), (1, "PayloadLost"));
    assert_eq!(dead_letters[0].failure.payload_reference, None);
    assert_eq!(world.record_table.item(id).unwrap().failure.unwrap().error_name, "PayloadLost");
    assert!(dead_letters[0].unfinished.iter().any(|remark| remark.contains("only the producer")));
}

#[tokio::test]
async fn a_payload_that_turns_up_between_the_two_looks_is_not_lost() {
    let world = World::default();
    let record = accepted(&world).await;
    world.cache.lose_everything();
    assert!(!fail(&world, &record.message, "PayloadMissing").await);
    // A late execution had read the payload, and archives it now.
    world.archive.insert_unconditionally(&record.id().archive_key(), PAYLOAD);
    advance(&world, LOSS_CONFIRMATION);
    assert!(fail(&world, &record.message, "PayloadMissing").await);
    let dead_letter = &world.dead_letters.all()[0];
    assert_eq!(dead_letter.failure.error_name, "PayloadMissing");
    assert!(dead_letter.failure.payload_reference.is_some());
}

#[tokio::test]
async fn only_definite_absence_counts_towards_a_loss() {
    let world = World::default();
    let record = accepted(&world).await;
    world.cache.lose_everything();
    let stores: [(Fail<'_>, ErrorName); 3] = [
        (&|on| world.cache.fail_with(on), ErrorName::CacheUnavailable),
        (&|on| world.failed_store.fail_with(on), ErrorName::FailedStoreUnavailable),
        (&|on| world.archive.fail_with(on), ErrorName::ArchiveUnavailable),
    ];
    for (set, name) in stores {
        set(Some(name));
        let error = world.failure(MANUAL).run(failure(&record.message, "archive", "PayloadMissing")).await;
        assert_eq!(error.unwrap_err().name, name);
        assert_eq!(world.open_records.get(record.id()).unwrap().missing_since, None, "{name:?}");
        set(None);
    }
}

#[tokio::test]
async fn a_step_that_fails_stays_pending_and_is_done_once_later() {
    let world = World::default();
    let record = accepted(&world).await;
    let id = record.id();
    let pending_steps = || match world.open_records.get(id).unwrap().state {
        OpenState::Failed { pending_steps, .. } => pending_steps,
        OpenState::InProgress => panic!("it has failed"),
    };
    world.topic.fail_with(Some(ErrorName::AccessDenied));
    world.record_table.fail_with(Some(ErrorName::TableUnavailable));
    assert!(!fail(&world, &record.message, "AccessDenied").await);
    assert_eq!(pending_steps(), [FailureStep::Item, FailureStep::Announcement]);
    let dead_letters = world.dead_letters.all();
    assert_eq!(dead_letters.len(), 1, "a table that denies access does not keep the dead letter back");
    assert!(dead_letters[0].unfinished.iter().any(|remark| remark.contains("TableUnavailable")));

    world.record_table.fail_with(None);
    assert!(!fail(&world, &record.message, "AccessDenied").await);
    assert_eq!(pending_steps(), [FailureStep::Announcement]);
    world.topic.fail_with(None);
    assert!(fail(&world, &record.message, "AccessDenied").await);
    assert!(pending_steps().is_empty());
    assert_eq!((world.dead_letters.all().len(), world.topic.published().len()), (1, 1));
}

#[tokio::test]
async fn a_failure_is_told_with_the_content_that_was_stored_first() {
    let world = World::default();
    let record = accepted(&world).await;
    world.topic.fail_with(Some(ErrorName::TopicUnavailable));
    fail(&world, &record.message, "AccessDenied").await;
    advance(&world, Duration::from_secs(90));
    world.topic.fail_with(None);
    world.failure(MANUAL).run(failure(&record.message, "metadata", "MetadataConflict")).await.unwrap();
    let event = &world.topic.published()[0].body;
    assert_eq!(event["data"]["failure"]["errorName"], "AccessDenied");
    assert_eq!(event["time"], world.dead_letters.all()[0].failure.failed_at.to_string());
    assert_eq!(event["id"], format!("{}/failed/1", record.id()));
}

#[tokio::test]
async fn a_record_that_another_execution_has_completed_has_not_failed() {
    let world = World::default();
    let record = accepted(&world).await;
    let times = CompletionTimes { archived_at: world.clock.now(), completed_at: world.clock.now() };
    world.record_table.put_received(&record.message, world.clock.now()).await.unwrap();
    world.record_table.complete(&record.message, times).await.unwrap();
    assert!(!fail(&world, &record.message, "AccessDenied").await);
    assert!(world.dead_letters.all().is_empty() && world.topic.published().is_empty());
    let open = world.open_records.get(record.id()).unwrap();
    assert_eq!(open.look_at, world.clock.now(), "reconcile announces and closes it at once");
}

#[tokio::test]
async fn a_late_failure_of_a_closed_record_or_an_earlier_attempt_changes_nothing() {
    let world = World::default();
    let message = crate::testing::samples::message(PAYLOAD);
    assert!(fail(&world, &message, "AccessDenied").await, "the record is not open");
    let record = accepted(&world).await;
    let mut earlier = record.message.clone();
    earlier.redrive = crate::testing::samples::redriven(&earlier).redrive;
    assert!(fail(&world, &earlier, "AccessDenied").await, "the open record is at another attempt");
    assert_eq!(world.open_records.get(record.id()).unwrap(), record);
    assert!(world.dead_letters.all().is_empty() && world.record_table.items().is_empty());
}

#[tokio::test]
async fn a_transient_failure_is_redriven_without_a_dead_letter_until_patience_and_attempts_are_at_their_end()
{
    let world = World::default();
    let record = accepted(&world).await;
    let automatic = world.failure(POLICY);
    assert!(automatic.run(failure(&record.message, "archive", "CacheUnavailable")).await.unwrap().finished);
    assert!(world.dead_letters.all().is_empty(), "an outage sends no dead letters");
    let open = world.open_records.get(record.id()).unwrap();
    assert!(open.look_at <= world.clock.now().after(Duration::from_secs(30)));

    // A failure that needs an operator is not redriven automatically.
    let other = accepted(&world).await;
    automatic.run(failure(&other.message, "archive", "AccessDenied")).await.unwrap();
    assert_eq!(world.dead_letters.all().len(), 1);
}

#[test]
fn transient_failures_park_by_elapsed_time_and_others_by_count() {
    use crate::error::ErrorKind::{Internal, Transient};
    let hour = Duration::from_hours(1);
    assert!(
        !POLICY.is_parked(Transient, 100, hour),
        "an hour's outage parks nothing, however often it was tried"
    );
    assert!(POLICY.is_parked(Transient, 4, PATIENCE));
    assert!(
        !POLICY.is_parked(Transient, 3, PATIENCE * 10),
        "nor does a long wait before the redrives were used"
    );
    assert!(POLICY.is_parked(Internal, 4, Duration::ZERO));
    assert!(!POLICY.is_parked(Internal, 3, Duration::ZERO));
}

#[tokio::test]
async fn altered_bytes_are_preserved_apart_and_reported() {
    let world = World::default();
    let record = accepted(&world).await;
    world.cache.corrupt(record.id(), b"altered");
    assert!(fail(&world, &record.message, "PayloadCorrupted").await);
    let objects = world.failed_store.objects();
    let (key, content) = objects.first_key_value().unwrap();
    assert!(key.starts_with("corrupted/") && content.as_ref() == b"altered", "{key}");
    assert!(world.cache.size(record.id()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_payload_that_moves_while_it_is_looked_for_is_seen_at_one_of_its_ends() {
    for delay in 0..12 {
        let world = World::default();
        let record = accepted(&world).await;
        let moving = async {
            for _ in 0..delay {
                world.open_records.find(record.id()).await.unwrap();
            }
            // Both stores change at once, as they do for a slow reader.
            world.archive.insert_unconditionally(&record.id().archive_key(), PAYLOAD);
            world.cache.lose(|id| id == record.id());
        };
        let stage = world.failure(MANUAL);
        let looking = stage.run(failure(&record.message, "archive", "PayloadMissing"));
        let (handled, ()) = futures_util::future::join(looking, moving).await;
        handled.unwrap();
        let open = world.open_records.get(record.id()).unwrap();
        assert_eq!(open.missing_since, None, "with a delay of {delay}");
    }
}

#[tokio::test]
async fn a_failed_record_that_is_archived_reports_its_archive_object_and_copies_nothing() {
    let world = World::default();
    let record = accepted(&world).await;
    let receipt = world.archive_stage().run(&record.message).await.unwrap();
    let mut failed = failure(&record.message, "metadata", "AccessDenied");
    failed.archive = Some(receipt.clone());
    assert!(world.failure(MANUAL).run(failed).await.unwrap().finished);
    let context = world.open_records.get(record.id()).unwrap().message.storage_context;
    assert_eq!(context.s3_reference, Some(receipt.s3_reference));
    assert!(context.persistence.s3 && !context.persistence.metadata && context.redis_reference.is_none());
    assert!(world.failed_store.objects().is_empty() && !world.cache.holds(record.id()));
}

#[tokio::test]
async fn another_object_under_the_records_key_does_not_keep_the_payload_from_being_preserved() {
    let world = World::default();
    let record = accepted(&world).await;
    world.archive.insert_unconditionally(&record.id().archive_key(), b"other");
    assert!(fail(&world, &record.message, "ArchiveConflict").await);
    assert_eq!(world.failed_store.objects()[&record.id().preserved_key()], PAYLOAD);
}

#[tokio::test]
async fn another_object_under_the_records_key_does_not_hide_that_the_payload_is_lost() {
    let world = World::default();
    let record = accepted(&world).await;
    world.archive.insert_unconditionally(&record.id().archive_key(), b"other");
    world.cache.lose_everything();
    assert!(!fail(&world, &record.message, "PayloadMissing").await);
    advance(&world, LOSS_CONFIRMATION);
    assert!(fail(&world, &record.message, "PayloadMissing").await);
    assert_eq!(world.dead_letters.all()[0].failure.error_name, "PayloadLost");
}
