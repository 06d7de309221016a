//! The circuit breaker of a node. It lets a `put` fail at once, instead of waiting for a node that hangs or lacks
//! replicas.
//!
//! A shard has one primary at a time, so the breaker of a node is also the breaker of its shard. While the breaker is
//! open, it refuses every `put`. After a pause it admits one `put` as a probe: that `put` first asks the node for its
//! state with a cheap command, and then sends its payload.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A circuit breaker. A new breaker is closed.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Option<Opened>>);

#[derive(Debug)]
struct Opened {
    until: Instant,
    why: PauseReason,
}

/// The reason why a breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PauseReason {
    /// The node did not answer in time.
    TimedOut,
    /// The node's replicas did not confirm a payload in time.
    TooFewReplicas,
    /// The node answered, but could not store a payload within the time limit of a `put`.
    Unready,
}

impl PauseReason {
    /// Returns the reason as text for an error message.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TimedOut => "the node did not answer in time",
            Self::TooFewReplicas => "too few of its replicas confirm",
            Self::Unready => "the node or its cluster was not ready",
        }
    }
}

/// The decision of a breaker about one `put`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The `put` may send its payload at once.
    Send,
    /// The `put` may send its payload after the node has reported enough replicas.
    Probe,
    /// The `put` must fail without a call to the node.
    Refused(PauseReason),
}

impl Breaker {
    /// Decides about one `put`. After the breaker's pause, at most one `put` within each further `pause` is admitted as
    /// a probe.
    pub(crate) fn admit(&self, pause: Duration) -> Admission {
        let mut opened = self.lock();
        let now = Instant::now();
        match opened.as_mut() {
            None => Admission::Send,
            Some(opened) if now < opened.until => Admission::Refused(opened.why),
            Some(opened) => {
                // If the probe never ends, because its caller drops it, the next probe is admitted after another pause.
                opened.until = now + pause;
                Admission::Probe
            }
        }
    }

    /// Opens the breaker for the time `pause`.
    pub(crate) fn open(&self, why: PauseReason, pause: Duration) {
        *self.lock() = Some(Opened { until: Instant::now() + pause, why });
    }

    /// Closes the breaker. The caller has seen a `put` succeed.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// Returns whether the breaker is open because the node hangs, and its pause is not over.
    pub(crate) fn is_hung(&self) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|opened| opened.why == PauseReason::TimedOut && Instant::now() < opened.until)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_refuses_at_once_and_lets_one_probe_after_each_pause() {
        let breaker = Breaker::default();
        assert_eq!(breaker.admit(PAUSE), Admission::Send);
        breaker.open(PauseReason::TooFewReplicas, PAUSE);
        for _ in 0..2 {
            assert_eq!(breaker.admit(PAUSE), Admission::Refused(PauseReason::TooFewReplicas));
            tokio::time::advance(PAUSE).await;
            assert_eq!(breaker.admit(PAUSE), Admission::Probe);
        }
        assert_eq!(
            breaker.admit(PAUSE),
            Admission::Refused(PauseReason::TooFewReplicas),
            "one probe at a time"
        );
        breaker.close();
        assert_eq!(breaker.admit(PAUSE), Admission::Send);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_counts_as_hung_until_the_pause_is_over() {
        let breaker = Breaker::default();
        breaker.open(PauseReason::TimedOut, PAUSE);
        assert!(breaker.is_hung());
        tokio::time::advance(PAUSE).await;
        assert!(!breaker.is_hung());
        breaker.open(PauseReason::TooFewReplicas, PAUSE);
        assert!(!breaker.is_hung(), "a node that lacks replicas does not hang");
    }
}
