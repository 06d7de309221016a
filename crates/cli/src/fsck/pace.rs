//! How hard an audit works: calls per second, and patience with services that are busy.

use std::time::Duration;

use custody_core::error::{ErrorKind, StageError};
use tokio::{
    sync::Mutex,
    time::{Interval, MissedTickBehavior, interval, sleep},
};

/// How many times a call is made before its failure counts.
const TRIES: u32 = 5;

/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_secs(1);

/// A limit of calls per second.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Interval>);

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        let mut interval = interval(Duration::from_secs(1) / per_second);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Mutex::new(interval))
    }

    /// Waits for the turn of one call.
    pub(super) async fn turn(&self) {
        self.0.lock().await.tick().await;
    }
}

/// Repeats a call as long as its failure is transient: an audit that takes hours is not to end over a throttled call.
pub(super) async fn patiently<T>(call: impl AsyncFn() -> Result<T, StageError>) -> Result<T, StageError> {
    for doublings in 0..TRIES - 1 {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Transient => sleep(PAUSE * (1 << doublings)).await,
            result => return result,
        }
    }
    call().await
}
