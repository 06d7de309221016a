//! A deployment in memory: its stores, its clock, its faults, and the ledger of what happened.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use custody_core::{
    clock::{Clock, Timestamp},
    record_id::RecordId,
    redrive_policy::RedrivePolicy,
    stages::reconcile::Settings,
    testing::world::{SETTINGS, World as Stores},
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    chance::Chance as _,
    faults::{Injector, Plan},
    ledger::Ledger,
    platform::Environments,
    scheduler::Scheduler,
    workflow::Executions,
};

/// The configuration of a schedule's deployment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Whether the workflow has the type `EXPRESS`.
    pub(crate) is_express: bool,
    /// Whether the cache has the durability level `durable` instead of `replicated`.
    pub(crate) is_durable: bool,
    pub(crate) policy: RedrivePolicy,
    /// The percentage of index listings that are out of date.
    pub(crate) lagging_listings: u64,
    /// The percentage of executions that are stopped, or cut off, at some state.
    pub(crate) stopped_executions: u64,
}

impl Setup {
    pub(crate) fn settings(&self) -> Settings {
        Settings { policy: self.policy, concurrency: 4, ..SETTINGS }
    }
}

/// Everything that exists in one schedule.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) stores: Stores,
    pub(crate) scheduler: Scheduler,
    pub(crate) injector: Injector,
    pub(crate) executions: Mutex<Executions>,
    pub(crate) environments: Mutex<Environments>,
    have_faults_ended: AtomicBool,
    ledger: Mutex<Ledger>,
    chance: Mutex<SmallRng>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup, trace: bool) -> Arc<Self> {
        let stores = Stores::default();
        if setup.is_durable {
            stores.cache.set_durable();
        }
        let mut chance = SmallRng::seed_from_u64(seed ^ 0xc2b2_ae35);
        stores.open_records.lag_listings(move || chance.percent(setup.lagging_listings));
        Arc::new(Self {
            setup,
            stores,
            scheduler: Scheduler::new(),
            injector: Injector::new(seed ^ 0x5bd1_e995),
            executions: Mutex::default(),
            environments: Mutex::default(),
            have_faults_ended: AtomicBool::new(false),
            ledger: Mutex::new(Ledger { trace: trace.then(Vec::new), ..Ledger::default() }),
            chance: Mutex::new(SmallRng::seed_from_u64(seed ^ 0x9e37_79b9)),
        })
    }

    /// Ends the faults, apart from those in the plan `rest`. Every later failure is a consequence of earlier faults.
    pub(crate) fn end_faults(&self, rest: Plan) {
        self.have_faults_ended.store(true, Ordering::Relaxed);
        self.injector.follow(rest);
        self.note(|| "the faults have ended".to_owned());
    }

    /// Decides whether an execution that begins now is stopped before its end.
    pub(crate) fn stops_execution(&self) -> bool {
        !self.have_faults_ended.load(Ordering::Relaxed)
            && self.chance().percent(self.setup.stopped_executions)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(crate) fn executions(&self) -> MutexGuard<'_, Executions> {
        lock(&self.executions)
    }

    pub(crate) fn environments(&self) -> MutexGuard<'_, Environments> {
        lock(&self.environments)
    }

    pub(crate) fn chance(&self) -> MutexGuard<'_, SmallRng> {
        lock(&self.chance)
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.scheduler.now_ms()).expect("a schedule stays in its century")
    }

    /// Adds a line to the trace, for a person who replays the schedule.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        self.ledger().note(|| format!("{now} {}", line()));
    }
}

/// The clock that every function of a schedule reads.
#[derive(Clone)]
pub(crate) struct SimulatedClock(pub(crate) Arc<World>);

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn mint(&self) -> RecordId {
        let mut bits = [0; 10];
        self.0.chance().fill_bytes(&mut bits);
        RecordId::with_random_bits(self.now(), &bits)
    }
}
