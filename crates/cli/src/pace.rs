//! Limits the calls per second of a long command, and repeats calls that fail for a transient reason.

use std::time::Duration;

use custody_core::error::{ErrorKind, StageError};
use tokio::{
    sync::Mutex,
    time::{Interval, MissedTickBehavior, interval, sleep},
};

/// Number of times that a call is made before its transient failure is returned.
const TRIES: u32 = 5;

/// Pause after the first failure. It doubles after each further failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A limit of calls per second.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Interval>);

impl Pace {
    pub(crate) fn new(per_second: u32) -> Self {
        let mut interval = interval(Duration::from_secs(1) / per_second);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Mutex::new(interval))
    }

    /// Waits until one further call may be made.
    pub(crate) async fn wait(&self) {
        self.0.lock().await.tick().await;
    }
}

/// Repeats a call while its failure is transient, up to a limit, so that a throttled call does not end a command that
/// takes hours.
pub(crate) async fn retry_transient<T>(
    call: impl AsyncFn() -> Result<T, StageError>,
) -> Result<T, StageError> {
    for doublings in 0..TRIES - 1 {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Transient => sleep(PAUSE * (1 << doublings)).await,
            result => return result,
        }
    }
    call().await
}
