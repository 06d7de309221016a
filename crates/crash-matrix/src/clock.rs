//! Time and chance of one schedule: virtual time, skewed at will, and ids that come from the schedule's seed.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use custody_core::{
    clock::{Clock, Timestamp},
    record_id::RecordId,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::Instant;

/// 2026-11-20T22:21:00Z.
const EPOCH_MS: i64 = 1_795_213_260_000;

/// The clock that every function of one schedule reads.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedClock {
    began: Instant,
    skew_ms: Arc<AtomicI64>,
    chance: Arc<Mutex<SmallRng>>,
}

impl SimulatedClock {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            began: Instant::now(),
            skew_ms: Arc::default(),
            chance: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))),
        }
    }

    /// Sets the clock wrong from now on.
    pub(crate) fn skew(&self, ms: i64) {
        self.skew_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or_default();
        let unix_ms = EPOCH_MS + elapsed + self.skew_ms.load(Ordering::Relaxed);
        Timestamp::from_unix_ms(unix_ms).expect("a schedule stays in its century")
    }

    fn mint(&self) -> RecordId {
        let mut bits = [0; 10];
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bits);
        RecordId::with_chance(self.now(), &bits)
    }
}
