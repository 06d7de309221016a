//! One schedule: producers, operators, weather and faults, and then the time in which everything must come to its end.

mod plan;

use std::{sync::Arc, time::Duration};

use custody_core::record_id::RecordId;

use crate::{
    chance::Chance as _,
    counts::Counts,
    faults::{Fault, Plan},
    invariants, operator, platform, producer,
    requests::Request,
    weather,
    world::{Setup, World},
};

const MINUTE: Duration = Duration::from_mins(1);

/// How many minutes what the faults left may take to come to its end.
const HEALING_MINUTES: u64 = 200;

/// Longer than reconcile leaves a record alone that waits for a person.
const LONG_AFTER: Duration = Duration::from_mins(6 * 60 + 30);

/// What a schedule is made of.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// What names it, for a replay.
    pub(crate) name: String,
    seed: u64,
    setup: Setup,
    plan: Plan,
    /// How long the faults last.
    window: Duration,
    /// The time between two runs of reconcile meanwhile.
    tick: Duration,
    posts: Vec<Post>,
    weather: Vec<(Duration, weather::Event)>,
    operations: Vec<(Duration, Operation)>,
    /// How many of a hundred answers are followed by a crash.
    crashes: u64,
    /// How many of a hundred runs of reconcile are killed, and how many have a second copy beside them.
    killed_runs: u64,
    doubled_runs: u64,
    /// Whether everything that goes wrong passes by itself within an hour.
    is_passing: bool,
}

/// A request, sent at some time.
#[derive(Clone, Debug)]
struct Post {
    at: Duration,
    request: Request,
    tries: u64,
}

/// Something that an operator does.
#[derive(Clone, Copy, Debug)]
enum Operation {
    RedriveLetters { forced: bool },
    RedriveOpen,
    Discard,
}

/// What became of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) calls: u64,
    pub(crate) acknowledged: u64,
    pub(crate) counts: Counts,
    pub(crate) trace: Vec<String>,
}

impl Schedule {
    /// One record, one fault: at this call of its way.
    pub(crate) fn single(call: u64, fault: Fault, is_keyed: bool, is_express: bool) -> Self {
        plan::single(call, fault, is_keyed, is_express)
    }

    /// The schedule that `seed` stands for.
    pub(crate) fn random(seed: u64) -> Self {
        plan::random(seed)
    }

    /// Runs the schedule from its first request to the last record's end.
    pub(crate) fn run(&self, trace: bool) -> Outcome {
        let world = World::new(self.seed, self.setup, trace);
        let scheduler = world.scheduler.clone();
        let (schedule, there) = (self.clone(), Arc::clone(&world));
        scheduler.run(async move { schedule.drive(&there).await });
        // They hold the world that holds them.
        world.environments().clear();
        let mut ledger = world.ledger();
        let mut counts = std::mem::take(&mut ledger.counts);
        counts.merge(world.injector.counts());
        Outcome {
            violations: std::mem::take(&mut ledger.violations),
            calls: world.injector.calls(),
            acknowledged: ledger
                .receipts
                .iter()
                .map(|a| a.receipt.message_id)
                .collect::<std::collections::BTreeSet<_>>()
                .len() as u64,
            counts,
            trace: ledger.trace.take().unwrap_or_default(),
        }
    }

    async fn drive(&self, world: &Arc<World>) {
        world.injector.follow(self.plan.clone());
        self.spawn_all(world);
        let ticks = self.window.as_millis() / self.tick.as_millis();
        for _ in 0..=ticks {
            self.tick(world);
            world.scheduler.sleep(self.tick).await;
        }
        // A fault at a certain call comes when that call does.
        world.mend(Plan { single: self.plan.single.clone(), ..Plan::default() });
        heal(world).await;
        invariants::check(world);
        if self.is_passing {
            invariants::check_unattended(world);
        }
        self.insist(world).await;
        invariants::check(world);
        invariants::count_ends(world);
    }

    fn spawn_all(&self, world: &Arc<World>) {
        for post in &self.posts {
            let (there, post, crashes) = (Arc::clone(world), post.clone(), self.crashes);
            world.scheduler.spawn(async move {
                there.scheduler.sleep(post.at).await;
                producer::post(there, post.request, post.tries, crashes).await;
            });
        }
        for (at, event) in self.weather.clone() {
            let there = Arc::clone(world);
            world.scheduler.spawn(async move {
                there.scheduler.sleep(at).await;
                weather::happen(there, event).await;
            });
        }
        for (at, operation) in self.operations.clone() {
            let there = Arc::clone(world);
            world.scheduler.spawn(async move {
                there.scheduler.sleep(at).await;
                there.note(|| format!("operator: {operation:?}"));
                match operation {
                    Operation::RedriveLetters { forced } => operator::redrive_all(&there, forced),
                    Operation::RedriveOpen => operator::redrive_open(&there),
                    Operation::Discard => operator::discard_some(there).await,
                }
            });
        }
    }

    /// What happens in the deployment every so often: reconcile, and the expiry of what expires.
    fn tick(&self, world: &Arc<World>) {
        let now = world.now();
        world.stores.cache.expire(now);
        if world.chance().percent(30) {
            world.stores.open.expire_claims(now);
        }
        let is_doubled = world.chance().percent(self.doubled_runs);
        for _ in 0..=usize::from(is_doubled) {
            let is_killed = world.chance().percent(self.killed_runs);
            let limit = Duration::from_millis(if is_killed { world.chance().below(800) } else { 120_000 });
            let offset = Duration::from_millis(world.chance().below(100));
            let there = Arc::clone(world);
            world.scheduler.spawn(async move {
                there.scheduler.sleep(offset).await;
                if platform::reconcile(Arc::clone(&there), limit).await.is_none() {
                    there.ledger().situation("a run of reconcile failed, or was killed");
                }
            });
        }
    }

    /// An operator insists on every failed record: what is not lost completes now.
    async fn insist(&self, world: &Arc<World>) {
        if world.stores.open.all().is_empty() {
            return;
        }
        operator::redrive_open(world);
        heal(world).await;
        let accepted: Vec<RecordId> = {
            let ledger = world.ledger();
            ledger.records.iter().filter(|(_, known)| known.accepted.is_some()).map(|(id, _)| *id).collect()
        };
        for id in accepted {
            invariants::check_completed(world, id);
        }
    }
}

/// Lets time pass until nothing is under way any more; then a long time more, in which nothing must come up again.
async fn heal(world: &Arc<World>) {
    bring_to_rest(world).await;
    world.scheduler.sleep(LONG_AFTER).await;
    bring_to_rest(world).await;
}

async fn bring_to_rest(world: &Arc<World>) {
    for _ in 0..HEALING_MINUTES {
        world.stores.cache.expire(world.now());
        platform::reconcile(Arc::clone(world), Duration::from_mins(2)).await;
        world.scheduler.sleep(MINUTE).await;
        if invariants::is_quiet(world) {
            return;
        }
    }
}
