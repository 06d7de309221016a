//! Weather: what befalls the cache, the queues and the tables as wholes.

use std::{sync::Arc, time::Duration};

use custody_core::record_id::RecordId;

use crate::{chance::Chance as _, watch, world::World};

/// Something that befalls a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Replicas lag for a while, and catch up.
    ReplicasLag,
    /// Replicas lag for a while, and then the primaries are lost.
    FailOverWhileLagging,
    /// The primaries are lost while the replicas have everything.
    FailOver,
    /// A primary comes up empty and answers, until its replica takes over.
    AnswersAsEmpty,
    /// The cache is full for a while.
    Full,
    /// All nodes of one of three shards are lost.
    LoseShard,
    /// All nodes are lost.
    LoseAll,
    /// Every message on the dead-letter queue expires.
    LettersExpire,
}

/// Events that leave every promise of every level in force.
pub(crate) const HARMLESS: [Event; 6] = [
    Event::ReplicasLag,
    Event::FailOverWhileLagging,
    Event::FailOver,
    Event::AnswersAsEmpty,
    Event::Full,
    Event::FailOverWhileLagging,
];

/// All events.
pub(crate) const ALL: [Event; 8] = [
    Event::ReplicasLag,
    Event::FailOverWhileLagging,
    Event::FailOver,
    Event::AnswersAsEmpty,
    Event::Full,
    Event::LoseShard,
    Event::LoseAll,
    Event::LettersExpire,
];

const SHARDS: u8 = 3;

/// Has an event happen, to its end.
pub(crate) async fn happen(world: Arc<World>, event: Event) {
    world.note(|| format!("weather: {event:?}"));
    world.ledger().counts.add("weather", format!("{event:?}"));
    let cache = &world.stores.cache;
    let ms = world.chance().below(90_000);
    let while_ = world.scheduler.sleep(Duration::from_millis(ms));
    match event {
        Event::ReplicasLag => {
            cache.set_replicas_lag(true);
            while_.await;
            cache.set_replicas_lag(false);
        }
        Event::FailOverWhileLagging => {
            cache.set_replicas_lag(true);
            while_.await;
            fail_over(&world);
            cache.set_replicas_lag(false);
        }
        Event::FailOver => fail_over(&world),
        // Two in close succession are one that lasts longer than a failover does.
        Event::AnswersAsEmpty if !world.ledger().may_answer_as_empty(world.scheduler.now_ms()) => {}
        Event::AnswersAsEmpty => {
            for id in cache.records() {
                world.ledger().record(id).was_hidden = true;
            }
            cache.set_answers_as_empty(true);
            // Shorter than what counts as the longest failover.
            world.scheduler.sleep(Duration::from_millis(ms.min(60_000))).await;
            cache.set_answers_as_empty(false);
        }
        Event::Full => {
            cache.set_capacity(Some(0));
            while_.await;
            cache.set_capacity(None);
        }
        Event::LoseShard => {
            let shard = world.chance().below(u64::from(SHARDS));
            lose(&world, |id| u64::from(id.partition() % SHARDS) == shard);
        }
        Event::LoseAll => lose(&world, |_| true),
        Event::LettersExpire => {
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

/// Loses all nodes of some shards. What is in the log of transactions comes back; at the level `replicated` there is none.
fn lose(world: &World, is_lost: impl Fn(RecordId) -> bool) {
    let cache = &world.stores.cache;
    if world.setup.is_durable {
        return fail_over(world);
    }
    let lost: Vec<_> = cache.records().into_iter().filter(|id| is_lost(*id)).collect();
    cache.lose(is_lost);
    for id in &lost {
        if !watch::is_in_s3(world, *id) && world.stores.open.get(*id).is_some() {
            world.ledger().situation("an accepted payload was lost");
        }
    }
    watch::lost(world, &lost);
}
