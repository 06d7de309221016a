//! Tests of starts: work that is due is started once.

use super::*;

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
    let (one, other) = join(one.run(), other.run()).await;
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
async fn the_time_between_two_looks_doubles_up_to_five_minutes() {
    // No start of an adopted record was counted, and its execution is started at its first look.
    for (forgets_names, starts) in [(false, 1), (true, 1), (true, 0)] {
        let world = World::default();
        if forgets_names {
            world.workflow.forget_names();
        }
        let accepted = samples::open_record(&samples::message_of(world.clock.mint(), PAYLOAD));
        let record = OpenRecord { starts, ..accepted };
        world.cache.put(record.id(), PAYLOAD.into()).await.unwrap();
        world.open_records.accept(&record, None).await.unwrap();
        let mut until_next_look = FIRST_LOOK;
        for expected in [FIRST_LOOK * 2, MAX_LOOK_INTERVAL, MAX_LOOK_INTERVAL, MAX_LOOK_INTERVAL] {
            advance(&world, until_next_look);
            world.workflow.end_all();
            assert_eq!(reconcile(&world).await.due, 1);
            until_next_look = world.open_records.get(record.id()).unwrap().look_at.since(world.clock.now());
            assert_eq!(until_next_look, expected);
        }
    }
}

#[tokio::test]
async fn an_execution_is_followed_by_another_only_if_its_attempt_is_still_in_progress() {
    for begins_next_attempt in [false, true] {
        let world = World::default();
        let record = accepted(&world).await;
        advance(&world, FIRST_LOOK);
        reconcile(&world).await;
        world.workflow.end_all();
        advance(&world, MAX_LOOK_INTERVAL);
        // The execution has failed its attempt just before it ended.
        let failures = failure(&record.message, "archive", "AccessDenied").failures;
        let summary = FailureSummary::new(failures, 1, world.clock.now(), None);
        let failed = OpenRecord {
            state: OpenState::Failed { failure: summary, pending_steps: Vec::new() },
            ..world.open_records.get(record.id()).unwrap()
        };
        let next = samples::open_record(&samples::redriven(&record.message));
        let failing = async {
            until(|| world.open_records.get(record.id()).is_some_and(|open| open.looks == 2)).await;
            let begun = async {
                if begins_next_attempt {
                    world.open_records.redrive(&next).await.unwrap();
                }
            };
            join(world.open_records.fail(&failed), begun).await.0.unwrap();
        };
        let stage = world.reconcile(SETTINGS);
        let (report, ()) = join(stage.run(), failing).await;
        assert_eq!(report.unwrap().started, 0);
        assert_eq!(world.workflow.names(), [record.attempt().execution_name(1)]);
        let open = world.open_records.get(record.id()).unwrap();
        assert_eq!(open, if begins_next_attempt { next } else { failed });
    }
}
