//! Tests of adoption: an acceptance that is only in a marker becomes an open record.

use super::*;

/// A record that only has a marker: its payload is cached, with an expiry.
async fn marked(world: &World) -> OpenRecord {
    let record = samples::open_record(&samples::message_of(world.clock.mint(), PAYLOAD));
    world.cache.put(record.id(), PAYLOAD.into()).await.unwrap();
    world.markers.mark(&record).await.unwrap();
    record
}

#[tokio::test]
async fn a_marker_is_adopted_before_anything_is_started_and_goes_last() {
    let world = World::default();
    // The workflow recognizes no names; nevertheless there is no execution to wait for.
    world.workflow.forget_names();
    let record = marked(&world).await;
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
async fn a_marker_that_cannot_be_read_holds_up_no_other_and_rings_an_alarm() {
    let world = World::default();
    let mut records = Vec::new();
    // There are more markers than are adopted concurrently.
    let count = SETTINGS.concurrency * 2;
    for _ in 0..count {
        records.push(marked(&world).await);
    }
    // This is the first marker in the list.
    let spoiled = world.markers.marked()[0];
    world.markers.make_unreadable(spoiled, ErrorName::ServiceRefused);
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
async fn a_marker_of_a_newer_release_holds_up_no_other_and_rings_no_alarm() {
    let world = World::default();
    for _ in 0..SETTINGS.concurrency * 2 {
        marked(&world).await;
    }
    let newer = world.markers.marked()[0];
    world.markers.make_unreadable(newer, ErrorName::NewerSchemaVersion);
    let report = reconcile(&world).await;
    assert_eq!((report.adopted, report.stuck, report.errors), (report.markers - 1, 0, 1));
    assert_eq!(world.markers.marked(), [newer]);
}

#[tokio::test]
async fn markers_are_left_to_the_next_run_once_a_store_is_away_or_the_time_is_up() {
    let world = World::default();
    let records = [marked(&world).await, marked(&world).await, marked(&world).await];
    let stage = world.reconcile(Settings { concurrency: 1, ..SETTINGS });
    world.open_records.fail_accepts(true);
    let report = stage.run().await.unwrap();
    assert_eq!((report.adopted, report.errors), (0, 1), "the store is not asked again");
    assert!(records.iter().all(|record| world.cache.is_persisted(record.id())));

    world.open_records.fail_accepts(false);
    let running_out = async {
        until(|| world.markers.marked().len() == 2).await;
        advance(&world, Duration::from_secs(20));
    };
    let (report, ()) = join(stage.run(), running_out).await;
    let report = report.unwrap();
    assert_eq!((report.markers, report.errors), (3, 0));
    assert_eq!(report.adopted, 2, "the adoption that has begun is finished");
    assert_eq!(world.markers.marked().len(), 1);
}

#[tokio::test]
async fn markers_that_cannot_be_listed_are_an_error_of_a_run_that_goes_on() {
    let world = World::default();
    accepted(&world).await;
    world.markers.fail_with(Some(ErrorName::MarkersUnavailable));
    advance(&world, FIRST_LOOK);
    let report = reconcile(&world).await;
    assert_eq!((report.errors, report.markers, report.started), (1, 0, 1));
}
