//! Tests of the reconcile stage: work that is due is done once, and no record is given up too early.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    attempt::Attempt,
    clock::Clock as _,
    error::ErrorName,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    open_record::{OpenRecord, OpenState},
    ports::{
        AcceptanceMarkers as _, CompletionTimes, Discard, OpenRecords as _, PayloadCache as _,
        RecordTable as _,
    },
    receipt::Durability,
    redrive_policy::PATIENCE,
    stages::{
        failure::LOSS_CONFIRMATION,
        reconcile::{MAX_LOOK_INTERVAL, Report, Settings},
        scenarios::{PAYLOAD, accepted, failure},
    },
    testing::{
        samples,
        world::{FIRST_LOOK, POLICY, SETTINGS, World},
    },
};

async fn reconcile(world: &World) -> Report {
    world.reconcile(SETTINGS).run().await.unwrap()
}

fn advance(world: &World, duration: Duration) {
    world.clock.advance_ms(i64::try_from(duration.as_millis()).unwrap());
}

/// Changes the state of a record's item to `COMPLETED`, as the workflow does before it closes the record.
async fn complete(world: &World, record: &OpenRecord) {
    let now = world.clock.now();
    let stored = world.record_table.put_received(&record.message, now).await.unwrap();
    let mut done = record.message.clone();
    let archived = world.archive_stage().run(&record.message).await.unwrap();
    done.storage_context.redis_reference = None;
    done.storage_context.s3_reference = Some(archived.s3_reference);
    done.storage_context.meta_data_reference = Some(stored.reference);
    done.storage_context.persistence.s3 = true;
    done.storage_context.persistence.meta_data = true;
    let times = CompletionTimes { archived_at: archived.archived_at, completed_at: now };
    world.record_table.complete(&done, times).await.unwrap();
}

#[tokio::test]
async fn a_workflow_that_was_not_started_is_started_and_one_that_runs_is_left_alone() {
    let world = World::default();
    let record = accepted(&world).await;
    assert_eq!(reconcile(&world).await.due, 0, "it is not due yet");
    assert!(world.workflow.names().is_empty());
    advance(&world, FIRST_LOOK);
    assert_eq!(reconcile(&world).await.started, 1);
    assert_eq!(world.workflow.names(), [format!("{}-1-1", record.id())]);
    assert!(world.cache.is_persisted(record.id()), "reconcile removes the expiry if ingest did not");
    advance(&world, MAX_LOOK_INTERVAL);
    let report = reconcile(&world).await;
    assert_eq!((report.started, report.running), (0, 1));
    assert_eq!(world.workflow.names().len(), 1);
}

#[tokio::test]
async fn a_payload_loses_its_expiry_also_while_the_record_table_is_away() {
    let world = World::default();
    let record = accepted(&world).await;
    world.record_table.fail_with(Some(ErrorName::AccessDenied));
    advance(&world, FIRST_LOOK);
    let report = reconcile(&world).await;
    assert_eq!((report.postponed, report.started), (1, 0), "what is complete would be started again");
    assert!(world.cache.is_persisted(record.id()), "an accepted payload has no expiry");
}

#[tokio::test]
async fn an_execution_that_ended_without_an_end_for_its_record_is_followed_by_another() {
    let world = World::default();
    let record = accepted(&world).await;
    advance(&world, FIRST_LOOK);
    reconcile(&world).await;
    world.workflow.end_all();
    advance(&world, MAX_LOOK_INTERVAL);
    assert_eq!(reconcile(&world).await.started, 1);
    let names = [1, 2].map(|start| record.attempt().execution_name(start));
    assert_eq!(world.workflow.names(), names);
    assert_eq!(world.open_records.get(record.id()).unwrap().starts, 2);
    assert!(world.dead_letters.all().is_empty(), "a restart sends no dead letter");
}

#[tokio::test]
async fn a_workflow_that_forgets_names_is_started_again_only_after_its_cut_off() {
    let world = World::default();
    world.workflow.forget_names();
    let record = accepted(&world).await;
    let first_start = world.clock.now();
    loop {
        advance(&world, Duration::from_mins(1));
        let report = reconcile(&world).await;
        let elapsed = world.clock.now().since(first_start);
        assert!(elapsed <= SETTINGS.restart_after + MAX_LOOK_INTERVAL, "it is never started");
        if report.started > 0 {
            assert!(elapsed >= SETTINGS.restart_after, "after {elapsed:?} the first one may still run");
            break;
        }
    }
    assert_eq!(world.workflow.names(), [record.attempt().execution_name(2)]);
    assert_eq!(world.workflow.repeated(), 0, "no name is started twice on purpose");
}

#[tokio::test]
async fn two_copies_of_reconcile_act_once() {
    let world = World::default();
    world.workflow.forget_names();
    let record = accepted(&world).await;
    advance(&world, SETTINGS.restart_after);
    let (one, other) = (world.reconcile(SETTINGS), world.reconcile(SETTINGS));
    let (one, other) = futures_util::future::join(one.run(), other.run()).await;
    assert_eq!(one.unwrap().started + other.unwrap().started, 1);
    assert_eq!(world.workflow.names(), [record.attempt().execution_name(2)]);
    assert_eq!(world.open_records.get(record.id()).unwrap().starts, 2);
}

#[tokio::test]
async fn a_start_is_counted_and_its_turn_taken_before_it_is_made() {
    let world = World::default();
    world.workflow.forget_names();
    let record = accepted(&world).await;
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    advance(&world, SETTINGS.restart_after);
    assert_eq!(reconcile(&world).await.postponed, 1);
    let open = world.open_records.get(record.id()).unwrap();
    assert_eq!(open.starts, 2, "the reply may have been lost");
    assert!(open.look_at > world.clock.now(), "a record that cannot be started does not starve the others");
}

#[tokio::test]
async fn a_complete_record_is_announced_in_order_unlinked_and_closed() {
    let world = World::default();
    let record = accepted(&world).await;
    complete(&world, &record).await;
    advance(&world, FIRST_LOOK);
    assert_eq!(reconcile(&world).await.closed, 1);
    let id = record.id();
    assert!(world.open_records.get(id).is_none() && !world.cache.holds(id));
    let ids: Vec<_> = world.topic.published().iter().map(|told| told.body["id"].clone()).collect();
    let expected =
        ["received", "archived", "metadata-stored", "completed"].map(|name| format!("{id}/{name}/1"));
    assert_eq!(ids, expected);
    assert!(world.workflow.names().is_empty(), "what is complete is not started again");
}

#[tokio::test]
async fn a_record_stays_open_until_it_is_announced_and_unlinked() {
    let world = World::default();
    let record = accepted(&world).await;
    complete(&world, &record).await;
    advance(&world, FIRST_LOOK);
    world.topic.fail_with(Some(ErrorName::AccessDenied));
    assert_eq!(reconcile(&world).await.stuck, 1);
    assert!(world.open_records.get(record.id()).is_some());
    world.topic.fail_with(None);
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    advance(&world, MAX_LOOK_INTERVAL);
    reconcile(&world).await;
    assert!(
        world.open_records.get(record.id()).is_some(),
        "a record is closed only after its payload is unlinked"
    );
    world.cache.fail_with(None);
    advance(&world, MAX_LOOK_INTERVAL);
    assert_eq!(reconcile(&world).await.closed, 1);
    let told = world.topic.published();
    for one in &told {
        let same = told.iter().filter(|other| other.body["id"] == one.body["id"]);
        assert!(same.into_iter().all(|other| other == one), "one id, one content");
    }
}

#[tokio::test]
async fn a_cache_that_lost_everything_is_noticed_within_minutes_and_each_record_handed_to_the_failure_function()
 {
    let world = World::default();
    world.workflow.fail_with(Some(ErrorName::AccessDenied));
    let records = [accepted(&world).await, accepted(&world).await];
    advance(&world, FIRST_LOOK);
    reconcile(&world).await;
    assert!(world.failure_handler.handled().is_empty(), "the payloads are there");
    world.cache.lose_everything();
    advance(&world, MAX_LOOK_INTERVAL);
    reconcile(&world).await;
    let handled = world.failure_handler.handled();
    assert_eq!(
        handled.len(),
        2,
        "a payload that is only in the cache is looked for at least every five minutes"
    );
    assert!(handled.iter().all(|failed| failed.failures[0].error_name == "PayloadMissing"));
    // The failure function decides, at its second look.
    for record in &records {
        let stage = world.failure(POLICY);
        assert!(!stage.run(failure(&record.message, "workflow", "PayloadMissing")).await.unwrap().finished);
    }
    advance(&world, LOSS_CONFIRMATION);
    assert_eq!(reconcile(&world).await.due, 2, "they are due when the second look is");
}

#[tokio::test]
async fn a_payload_that_was_archived_meanwhile_or_a_store_that_is_away_is_no_loss() {
    let world = World::default();
    let record = accepted(&world).await;
    world.archive.insert_unconditionally(&record.id().archive_key(), PAYLOAD);
    world.cache.lose_everything();
    advance(&world, FIRST_LOOK);
    assert_eq!(reconcile(&world).await.started, 1);
    let other = accepted(&world).await;
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    advance(&world, FIRST_LOOK);
    reconcile(&world).await;
    assert!(world.failure_handler.handled().is_empty());
    assert!(world.workflow.names().contains(&other.attempt().execution_name(1)));
}

#[tokio::test]
async fn a_payload_that_moves_while_it_is_looked_for_is_not_missing() {
    for delay in 0..12 {
        let world = World::default();
        let record = accepted(&world).await;
        advance(&world, FIRST_LOOK);
        let moving = async {
            for _ in 0..delay {
                world.markers.list(1).await.unwrap();
            }
            // Both stores change at once, as they do for a slow reader.
            world.archive.insert_unconditionally(&record.id().archive_key(), PAYLOAD);
            world.cache.lose(|id| id == record.id());
        };
        let looking = world.reconcile(SETTINGS);
        let (report, ()) = futures_util::future::join(looking.run(), moving).await;
        report.unwrap();
        assert!(world.failure_handler.handled().is_empty(), "with a delay of {delay}");
    }
}

#[tokio::test]
async fn an_outage_of_an_hour_gives_no_record_up_and_an_endless_one_does() {
    let world = World::default();
    let record = accepted(&world).await;
    let began = world.clock.now();
    let mut given_up_after = None;
    for _ in 0..180 {
        world.workflow.end_all();
        advance(&world, Duration::from_mins(1));
        reconcile(&world).await;
        if !world.failure_handler.handled().is_empty() {
            given_up_after = Some(world.clock.now().since(began));
            break;
        }
    }
    let handled = world.failure_handler.handled();
    assert_eq!(handled[0].failures[0].error_name, "WorkflowIncomplete");
    assert!(given_up_after.unwrap() > PATIENCE, "{given_up_after:?}");
    assert!(world.open_records.get(record.id()).unwrap().starts > 10);
}

#[tokio::test]
async fn a_record_that_nothing_could_be_tried_for_in_an_outage_is_tried_after_it() {
    let world = World::default();
    accepted(&world).await;
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    for _ in 0..200 {
        advance(&world, Duration::from_mins(1));
        reconcile(&world).await;
    }
    assert!(world.failure_handler.handled().is_empty(), "no execution has failed");
    world.workflow.fail_with(None);
    advance(&world, MAX_LOOK_INTERVAL);
    assert_eq!(reconcile(&world).await.started, 1);
}

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
async fn a_discarded_record_is_closed() {
    let world = World::default();
    let record = accepted(&world).await;
    world.failure(POLICY).run(failure(&record.message, "archive", "AccessDenied")).await.unwrap();
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    assert!(world.record_table.discard(record.attempt(), &discard).await.unwrap());
    advance(&world, Duration::from_hours(7));
    assert_eq!(reconcile(&world).await.closed, 1);
    assert!(world.open_records.all().is_empty());
}

#[tokio::test]
async fn a_marker_is_adopted_before_anything_is_started_and_goes_last() {
    let world = World::default();
    // The workflow recognizes no names; nevertheless there is no execution to wait for.
    world.workflow.forget_names();
    let record = samples::open_record(&samples::message_of(world.clock.mint(), PAYLOAD));
    world.cache.put(record.id(), PAYLOAD.into()).await.unwrap();
    world.markers.mark(&record).await.unwrap();
    world.open_records.fail_accepts(true);
    let report = reconcile(&world).await;
    assert_eq!((report.markers, report.adopted, report.errors), (1, 0, 1));
    assert_eq!(world.markers.marked(), [record.attempt()], "without an open record the marker stays");
    assert!(world.workflow.names().is_empty());
    assert!(world.cache.is_persisted(record.id()), "an accepted payload has no expiry");
    world.open_records.fail_accepts(false);
    let report = reconcile(&world).await;
    assert_eq!((report.adopted, report.started), (1, 1));
    assert!(world.markers.marked().is_empty());
    assert!(world.open_records.get(record.id()).is_some());
    assert_eq!(world.workflow.names(), [record.attempt().execution_name(1)]);
}

#[tokio::test]
async fn a_marker_never_reopens_a_record() {
    let world = World::default();
    // The acceptance had reached the table in spite of its error, and the record is complete and closed.
    let done = accepted(&world).await;
    complete(&world, &done).await;
    world.markers.mark(&done).await.unwrap();
    world.open_records.close(done.attempt()).await.unwrap();
    // Another record was discarded meanwhile.
    let discarded = accepted(&world).await;
    world.failure(POLICY).run(failure(&discarded.message, "archive", "AccessDenied")).await.unwrap();
    let discard = Discard { by: "operator".into(), at: world.clock.now(), reason: "withdrawn".into() };
    world.record_table.discard(discarded.attempt(), &discard).await.unwrap();
    world.markers.mark(&discarded).await.unwrap();
    world.open_records.close(discarded.attempt()).await.unwrap();
    // A third record has failed at its attempt.
    let later = accepted(&world).await;
    world.failure(POLICY).run(failure(&later.message, "archive", "CacheUnavailable")).await.unwrap();
    world.markers.mark(&later).await.unwrap();

    let told = world.topic.published().len();
    reconcile(&world).await;
    assert!(world.markers.marked().is_empty());
    assert_eq!(world.topic.published().len(), told, "what is closed is not announced again");
    assert_eq!(world.open_records.all().iter().map(OpenRecord::id).collect::<Vec<_>>(), [later.id()]);
    assert!(matches!(world.open_records.get(later.id()).unwrap().state, OpenState::Failed { .. }));
}

#[tokio::test]
async fn the_claim_of_an_open_record_is_renewed() {
    let world = World::default();
    world.workflow.fail_with(Some(ErrorName::AccessDenied));
    let now = world.clock.now();
    let key = IdempotencyKey::of_header("caller", "key").unwrap();
    let message = samples::message_of(world.clock.mint(), PAYLOAD);
    let record = OpenRecord::begin(message, Durability::Archived, Some(key), now, now.after(FIRST_LOOK));
    let claim = Claim::new(&record.message, Durability::Archived, now);
    let request = ClaimRequest { key, claim, replaces: None };
    world.open_records.accept(&record, Some(&request)).await.unwrap();
    // The loop takes longer than the table keeps a claim that nobody renews.
    for _ in 0..24 * 10 {
        advance(&world, Duration::from_hours(1));
        reconcile(&world).await;
        world.open_records.expire_claims(world.clock.now());
    }
    assert!(world.open_records.get(record.id()).is_some());
    assert!(!world.open_records.claims()[&key].is_expired(world.clock.now()));
}

#[tokio::test]
async fn the_index_is_a_hint_and_the_table_must_answer() {
    let world = World::default();
    let record = accepted(&world).await;
    advance(&world, FIRST_LOOK);
    world.record_table.fail_with(Some(ErrorName::TableUnavailable));
    assert_eq!(reconcile(&world).await.postponed, 1, "what is complete must not be started again");
    assert!(world.workflow.names().is_empty());
    world.open_records.fail_with(Some(ErrorName::TableUnavailable));
    assert!(world.reconcile(SETTINGS).run().await.is_err(), "the run fails, which raises an alarm");
    assert_eq!(Attempt::first(record.id()), record.attempt());
}

#[tokio::test]
async fn a_backlog_is_counted_honestly_and_started_within_the_budget() {
    let world = World::default();
    for _ in 0..50 {
        accepted(&world).await;
    }
    advance(&world, FIRST_LOOK);
    let settings = Settings { max_listed: 40, max_starts: 10, ..SETTINGS };
    let report = world.reconcile(settings).run().await.unwrap();
    assert_eq!((report.open, report.at_least, report.due), (40, true, 40));
    assert_eq!((report.started, report.postponed), (10, 30));
    let looked_at = world.open_records.all().iter().filter(|record| record.looks > 0).count();
    assert_eq!(looked_at, 40, "looking for a payload does not wait for a start");
    assert_eq!(report.oldest_open_age_seconds, 120);
    let settings = Settings { max_starts: 10, ..SETTINGS };
    for round in 2..=4 {
        // The other records had their turn: looking for a payload does not wait for a start.
        advance(&world, Duration::from_mins(1));
        world.reconcile(settings).run().await.unwrap();
        assert_eq!(world.workflow.names().len(), 10 * round, "what was not started is still due");
    }
}

/// The number of records in a backlog, and the number of those that no execution completes. The backlog and the starts
/// of one run are a fiftieth of their real sizes, which are 100,000 records and `SETTINGS.max_starts`.
const BACKLOG: usize = 2_000;
const HOPELESS: usize = 100;

#[tokio::test]
async fn a_backlog_drains_although_some_of_it_cannot_be_helped() {
    let world = World::default();
    let settings = Settings { max_starts: SETTINGS.max_starts / 50, ..SETTINGS };
    let mut backlog = Vec::new();
    for _ in 0..BACKLOG {
        backlog.push(accepted(&world).await);
    }
    advance(&world, FIRST_LOOK);
    // The executions of the first records are cut off again and again.
    let hopeless: BTreeSet<_> = backlog.iter().take(HOPELESS).map(OpenRecord::id).collect();
    let mut rounds = 0;
    loop {
        let report = world.reconcile(settings).run().await.unwrap();
        assert!(report.started <= settings.max_starts, "new records keep their share of starts");
        world.workflow.end_all();
        for record in backlog.iter().filter(|record| !hopeless.contains(&record.id())) {
            if world.workflow.has_started(record.attempt()) {
                world.open_records.close(record.attempt()).await.unwrap();
            }
        }
        backlog.retain(|record| world.open_records.get(record.id()).is_some());
        rounds += 1;
        if backlog.len() == HOPELESS {
            break;
        }
        // Half of all starts go to the records that cannot be completed: each of them is looked at every five minutes.
        assert!(rounds < 120, "{} are left after {rounds} minutes", backlog.len());
        advance(&world, Duration::from_mins(1));
    }
    assert!(rounds >= BACKLOG / settings.max_starts, "{rounds}");
}

#[tokio::test]
async fn a_marker_that_cannot_be_read_holds_up_no_other_and_rings_an_alarm() {
    let world = World::default();
    let mut records = Vec::new();
    // There are more markers than are adopted concurrently.
    let count = SETTINGS.concurrency * 2;
    for _ in 0..count {
        let record = samples::open_record(&samples::message_of(world.clock.mint(), PAYLOAD));
        world.cache.put(record.id(), PAYLOAD.into()).await.unwrap();
        world.markers.mark(&record).await.unwrap();
        records.push(record);
    }
    // This is the first marker in the list.
    let spoiled = world.markers.marked()[0];
    world.markers.make_unreadable(spoiled);
    advance(&world, FIRST_LOOK);
    let report = reconcile(&world).await;
    assert_eq!(
        (report.markers, report.adopted, report.stuck, report.started),
        (count, count - 1, 1, count - 1)
    );
    assert_eq!(world.markers.marked(), [spoiled]);
    for record in &records {
        world.open_records.close(record.attempt()).await.unwrap();
    }
    let report = reconcile(&world).await;
    assert!(
        report.oldest_open_age_seconds >= FIRST_LOOK.as_secs(),
        "a record that only has a marker is open"
    );
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

#[tokio::test]
async fn a_record_that_was_completed_after_it_had_failed_is_announced_as_its_next_attempt() {
    let world = World::default();
    let record = accepted(&world).await;
    // One execution of the attempt fails, and another, late one completes the record.
    world.failure(POLICY).run(failure(&record.message, "metadata", "AccessDenied")).await.unwrap();
    complete(&world, &record).await;
    advance(&world, Duration::from_hours(6));
    assert_eq!(reconcile(&world).await.closed, 1);
    let told = world.topic.published();
    let ids: Vec<_> = told.iter().map(|told| told.body["id"].as_str().unwrap().to_owned()).collect();
    let events = ["failed/1", "received/2", "archived/2", "metadata-stored/2", "completed/2"];
    assert_eq!(ids, events.map(|event| format!("{}/{event}", record.id())), "an id has one content");
}
