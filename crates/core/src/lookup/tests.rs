//! Tests of the lookup: a record that has a receipt is found, wherever it is in the pipeline.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
};

use crate::{
    clock::Clock as _,
    lookup::{Found, look_up},
    open_record::OpenRecord,
    ports::{AcceptanceMarkers as _, CompletionTimes, OpenRecords as _, RecordTable as _},
    stages::scenarios::PAYLOAD,
    testing::{samples, world::World},
};

/// Moves a record from its marker to the open-record table, as reconcile does.
async fn adopt(world: &World, record: &OpenRecord) {
    world.open_records.accept(record, None).await.unwrap();
    world.markers.clear(record.attempt()).await.unwrap();
}

/// Moves a record from the open-record table to its completion, as the workflow does.
async fn complete(world: &World, record: &OpenRecord) {
    let now = world.clock.now();
    world.record_table.put_received(&record.message, now).await.unwrap();
    let times = CompletionTimes { archived_at: now, completed_at: now };
    world.record_table.complete(&record.message, times).await.unwrap();
    world.open_records.close(record.attempt()).await.unwrap();
}

/// Lets a lookup make `count` of its reads.
async fn reads<T>(mut looking: Pin<&mut impl Future<Output = T>>, count: usize) {
    for _ in 0..count {
        let is_done = poll_fn(|context| Poll::Ready(looking.as_mut().poll(context).is_ready())).await;
        assert!(!is_done, "the lookup has a read left");
    }
}

/// Whether any store has the record.
fn is_known(Found { marker, open, item }: &Found) -> bool {
    let has = [marker, open].into_iter().any(|found| found.as_ref().unwrap().is_some());
    has || item.as_ref().unwrap().is_some()
}

/// The number of reads that a lookup makes: one of each store.
const READS: usize = 3;

#[tokio::test]
async fn what_has_a_receipt_is_found_while_it_moves() {
    for before in 0..=READS {
        for between in 0..=READS - before {
            let world = World::default();
            let record = samples::open_record(&samples::message(PAYLOAD));
            world.markers.mark(&record).await.unwrap();
            let mut looking =
                pin!(look_up(&world.markers, &world.open_records, &world.record_table, record.id()));
            reads(looking.as_mut(), before).await;
            adopt(&world, &record).await;
            reads(looking.as_mut(), between).await;
            complete(&world, &record).await;
            let found = looking.await;
            assert!(is_known(&found), "adopted after {before} reads, completed {between} later: {found:?}");
        }
    }
}

#[tokio::test]
async fn of_a_record_that_was_never_accepted_nothing_is_known() {
    let world = World::default();
    let found = look_up(&world.markers, &world.open_records, &world.record_table, samples::record_id()).await;
    assert!(!is_known(&found), "{found:?}");
}
