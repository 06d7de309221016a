//! Events that affect a whole store: failovers and losses of the cache, and the expiry of dead letters.

use std::{sync::Arc, time::Duration};

use custody_core::record_id::RecordId;
use strum::VariantArray;

use crate::{chance::Chance as _, watch, world::World};

/// An event that affects a whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
pub(crate) enum StoreEvent {
    /// Replicas lag for a while, and then catch up.
    ReplicasLag,
    /// Replicas lag for a while, and then the primaries are lost.
    FailOverWhileLagging,
    /// The primaries are lost while the replicas have all data.
    FailOver,
    /// A primary restarts without data and answers, until its replica takes over.
    AnswersAsEmpty,
    /// The cache is full for a while.
    Full,
    /// All nodes of one of three shards are lost.
    LoseShard,
    /// All nodes are lost.
    LoseAll,
    /// Every message on the dead-letter queue expires.
    DeadLettersExpire,
}

/// Events that break no promise of any durability level.
pub(crate) const HARMLESS: [StoreEvent; 6] = [
    StoreEvent::ReplicasLag,
    StoreEvent::FailOverWhileLagging,
    StoreEvent::FailOver,
    StoreEvent::AnswersAsEmpty,
    StoreEvent::Full,
    StoreEvent::FailOverWhileLagging,
];

const SHARDS: u8 = 3;

/// Applies an event, and returns when it is over.
pub(crate) async fn apply(world: Arc<World>, event: StoreEvent) {
    world.note(|| format!("weather: {event:?}"));
    world.ledger().counts.add("weather", format!("{event:?}"));
    let cache = &world.stores.cache;
    let ms = world.chance().below(90_000);
    let for_a_while = world.scheduler.sleep(Duration::from_millis(ms));
    match event {
        StoreEvent::ReplicasLag => {
            cache.set_replicas_lag(true);
            for_a_while.await;
            cache.set_replicas_lag(false);
        }
        StoreEvent::FailOverWhileLagging => {
            cache.set_replicas_lag(true);
            for_a_while.await;
            fail_over(&world);
            cache.set_replicas_lag(false);
        }
        StoreEvent::FailOver => fail_over(&world),
        // Two such events in close succession would be like one that lasts longer than a failover.
        StoreEvent::AnswersAsEmpty if !world.ledger().may_answer_as_empty(world.scheduler.now_ms()) => {}
        StoreEvent::AnswersAsEmpty => {
            for id in cache.records() {
                world.ledger().record(id).was_temporarily_absent = true;
            }
            cache.set_reports_absence(true);
            // The event is shorter than the longest failover that is expected.
            world.scheduler.sleep(Duration::from_millis(ms.min(60_000))).await;
            cache.set_reports_absence(false);
        }
        StoreEvent::Full => {
            cache.set_capacity(Some(0));
            for_a_while.await;
            cache.set_capacity(None);
        }
        StoreEvent::LoseShard => {
            let shard = world.chance().below(u64::from(SHARDS));
            lose(&world, |id| u64::from(id.partition() % SHARDS) == shard);
        }
        StoreEvent::LoseAll => lose(&world, |_| true),
        StoreEvent::DeadLettersExpire => {
            if !world.stores.dead_letters.take().is_empty() {
                world.ledger().situation("dead letters expired");
            }
        }
    }
}

fn fail_over(world: &World) {
    let cache = &world.stores.cache;
    let before = cache.records().len();
    cache.fail_over();
    if cache.records().len() < before {
        world.ledger().situation("a failover lost an unconfirmed payload");
    }
}

/// Loses all nodes of some shards. At the level `durable`, the transaction log restores their data. At the level
/// `replicated`, there is no such log.
fn lose(world: &World, is_lost: impl Fn(RecordId) -> bool) {
    let cache = &world.stores.cache;
    if world.setup.is_durable {
        return fail_over(world);
    }
    let lost: Vec<_> = cache.records().into_iter().filter(|id| is_lost(*id)).collect();
    cache.lose(is_lost);
    for id in &lost {
        if !watch::is_in_s3(world, *id) && world.stores.open_records.get(*id).is_some() {
            world.ledger().situation("an accepted payload was lost");
        }
    }
    watch::note_loss(world, &lost);
}
