//! Tests of the index and of backlogs.

use super::*;

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

#[tokio::test]
async fn a_run_reports_how_many_records_are_in_progress_for_long() {
    let world = World::default();
    for minutes in [100, 15, 5] {
        accepted(&world).await;
        advance(&world, Duration::from_mins(minutes));
    }
    let report = reconcile(&world).await;
    assert_eq!((report.open, report.open_over_ten_minutes, report.open_over_an_hour), (3, 2, 1));
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
async fn a_run_whose_time_is_up_leaves_the_other_records_as_they_are() {
    let world = World::default();
    for _ in 0..250 {
        accepted(&world).await;
    }
    advance(&world, FIRST_LOOK);
    let settings = Settings { concurrency: 1, ..SETTINGS };
    let running_out = async {
        until(|| world.workflow.names().len() == 40).await;
        advance(&world, settings.budget);
    };
    let stage = world.reconcile(settings);
    let (report, ()) = join(stage.run(), running_out).await;
    let report = report.unwrap();
    assert_eq!(
        (report.due, report.not_reached),
        (250, 150),
        "the records after the batch are not asked about"
    );
    let looked_at = world.open_records.all().iter().filter(|record| record.looks > 0).count();
    assert_eq!((report.started, report.postponed), (looked_at, 100 - looked_at));
    assert!((40..=42).contains(&looked_at), "{looked_at}: the look that has begun is finished");
}

#[tokio::test]
async fn a_run_gives_up_starting_after_twenty_starts_that_failed() {
    let world = World::default();
    for _ in 0..30 {
        accepted(&world).await;
    }
    advance(&world, FIRST_LOOK);
    world.workflow.fail_with(Some(ErrorName::WorkflowUnavailable));
    let report = world.reconcile(Settings { concurrency: 1, ..SETTINGS }).run().await.unwrap();
    assert_eq!(report.postponed, 30);
    let in_a_minute = world.clock.now().after(Duration::from_mins(1));
    let untried = world.open_records.all().iter().filter(|record| record.look_at == in_a_minute).count();
    assert_eq!(untried, 10, "a start that was tried has the usual time until its next look");
}
