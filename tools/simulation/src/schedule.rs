//! Runs one schedule: a period with producers, operators, store events and faults, and then the time in which every
//! record must reach its end.

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

/// The maximum time in minutes for everything that the faults have left behind to reach its end.
const MAX_MINUTES_UNTIL_AT_REST: u64 = 200;

/// A time that is longer than reconcile waits between two looks at a record that waits for a person.
const QUIET_PERIOD: Duration = Duration::from_mins(6 * 60 + 30);

/// A schedule and its parts.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// The name of the schedule, for a replay.
    pub(crate) name: String,
    seed: u64,
    setup: Setup,
    plan: Plan,
    /// The time during which faults occur.
    window: Duration,
    /// The time between two runs of reconcile during the window.
    tick: Duration,
    posts: Vec<Post>,
    weather: Vec<(Duration, weather::StoreEvent)>,
    operations: Vec<(Duration, Operation)>,
    /// The percentage of answers that are followed by a crash.
    crashes: u64,
    /// The percentage of reconcile runs that are killed.
    killed_runs: u64,
    /// The percentage of reconcile runs that run twice at the same time.
    doubled_runs: u64,
    /// Whether every fault ends by itself within an hour.
    faults_end_within_an_hour: bool,
}

/// A request, and the time at which a producer sends it.
#[derive(Clone, Debug)]
struct Post {
    at: Duration,
    request: Request,
    tries: u64,
}

/// An action of an operator.
#[derive(Clone, Copy, Debug)]
enum Operation {
    RedriveDeadLetters { forced: bool },
    RedriveOpen,
    Discard,
}

/// The result of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) calls: u64,
    pub(crate) acknowledged: u64,
    pub(crate) counts: Counts,
    pub(crate) trace: Vec<String>,
}

impl Schedule {
    /// Returns the schedule with one record and one fault, at this call of the record's processing.
    pub(crate) fn single(call: u64, fault: Fault, is_keyed: bool, is_express: bool) -> Self {
        plan::single(call, fault, is_keyed, is_express)
    }

    /// Returns the random schedule of `seed`.
    pub(crate) fn random(seed: u64) -> Self {
        plan::random(seed)
    }

    /// Runs the schedule from its first request to the last record's end.
    pub(crate) fn run(&self, trace: bool) -> Outcome {
        let world = World::new(self.seed, self.setup, trace);
        let scheduler = world.scheduler.clone();
        let (schedule, there) = (self.clone(), Arc::clone(&world));
        scheduler.run(async move { schedule.drive(&there).await });
        // The environments hold the world, and the world holds the environments: this breaks the cycle.
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
        // A fault at a certain call stays in the plan, because that call may still come.
        world.end_faults(Plan { single: self.plan.single.clone(), ..Plan::default() });
        wait_until_everything_ends(world).await;
        invariants::check(world);
        if self.faults_end_within_an_hour {
            invariants::check_unattended(world);
        }
        self.force_redrives(world).await;
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
                weather::apply(there, event).await;
            });
        }
        for (at, operation) in self.operations.clone() {
            let there = Arc::clone(world);
            world.scheduler.spawn(async move {
                there.scheduler.sleep(at).await;
                there.note(|| format!("operator: {operation:?}"));
                match operation {
                    Operation::RedriveDeadLetters { forced } => {
                        operator::redrive_all_dead_letters(&there, forced);
                    }
                    Operation::RedriveOpen => operator::redrive_from_open_records(&there),
                    Operation::Discard => operator::discard_some(there).await,
                }
            });
        }
    }

    /// Runs what happens periodically in the deployment: reconcile, and the expiry of payloads in the cache and of
    /// claims.
    fn tick(&self, world: &Arc<World>) {
        let now = world.now();
        world.stores.cache.expire(now);
        if world.chance().percent(30) {
            world.stores.open_records.expire_claims(now);
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

    /// Forces a redrive of every failed record: every record that is neither lost nor discarded must complete now.
    async fn force_redrives(&self, world: &Arc<World>) {
        if world.stores.open_records.all().is_empty() {
            return;
        }
        operator::redrive_from_open_records(world);
        wait_until_everything_ends(world).await;
        let accepted: Vec<RecordId> = {
            let ledger = world.ledger();
            ledger.records.iter().filter(|(_, known)| known.accepted.is_some()).map(|(id, _)| *id).collect()
        };
        for id in accepted {
            invariants::check_completed(world, id);
        }
    }
}

/// Lets time pass until nothing is running any more. Then lets a long time pass, and waits again: nothing must come up
/// in it that does not end.
async fn wait_until_everything_ends(world: &Arc<World>) {
    reconcile_until_at_rest(world).await;
    world.scheduler.sleep(QUIET_PERIOD).await;
    reconcile_until_at_rest(world).await;
}

async fn reconcile_until_at_rest(world: &Arc<World>) {
    for _ in 0..MAX_MINUTES_UNTIL_AT_REST {
        world.stores.cache.expire(world.now());
        platform::reconcile(Arc::clone(world), Duration::from_mins(2)).await;
        world.scheduler.sleep(MINUTE).await;
        if invariants::is_at_rest(world) {
            return;
        }
    }
}
