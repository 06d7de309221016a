//! A lookup: what has a receipt is found, wherever it is on its way.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use custody_core::{
    clock::Clock as _,
    lookup::{Found, look_up},
    open_record::OpenRecord,
    ports::{AcceptanceMarkers as _, CompletionTimes, OpenRecords as _, RecordTable as _},
};
use custody_test_support::{samples, world::World};

/// Moves a record from its marker to its completion, as reconcile and the workflow do, beginning after `delay` reads of
/// something else.
async fn go_its_way(world: &World, record: &OpenRecord, delay: usize) {
    for _ in 0..delay {
        (&world.markers).list(1).await.unwrap();
    }
    (&world.open).accept(record, None).await.unwrap();
    (&world.markers).clear(record.attempt()).await.unwrap();
    let now = world.clock.now();
    (&world.table).put_received(&record.message, now).await.unwrap();
    let times = CompletionTimes { archived_at: now, completed_at: now };
    (&world.table).complete(&record.message, times).await.unwrap();
    (&world.open).close(record.attempt()).await.unwrap();
}

#[tokio::test]
async fn what_has_a_receipt_is_found_while_it_moves() {
    for steps_ahead in 0..8 {
        for delay in 0..4 {
            let world = World::default();
            let record = samples::open_record(&samples::message(support::PAYLOAD));
            (&world.markers).mark(&record).await.unwrap();
            let looking = async {
                for _ in 0..steps_ahead {
                    (&world.markers).list(1).await.unwrap();
                }
                look_up(&&world.markers, &&world.open, &&world.table, record.id()).await
            };
            let moving = go_its_way(&world, &record, delay);
            let (found, ()) = futures_util::future::join(looking, moving).await;
            assert!(found.unwrap().is_known(), "{steps_ahead} steps ahead, with a delay of {delay}");
        }
    }
}

#[tokio::test]
async fn of_a_record_that_was_never_accepted_nothing_is_known() {
    let world = World::default();
    let found = look_up(&&world.markers, &&world.open, &&world.table, samples::record_id()).await.unwrap();
    assert_eq!(found, Found { marker: None, open: None, item: None });
    assert!(!found.is_known());
}
