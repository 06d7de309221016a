//! The breaker of a node: it spares puts the wait for a node that hangs or lacks replicas.
//!
//! A shard has one primary at a time, so this is the breaker of the shard too. Open, it refuses puts at once. After a pause
//! one put may try: it asks the node cheaply how it is before it sends its payload.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The breaker. Closed when made.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Option<Opened>>);

#[derive(Debug)]
struct Opened {
    until: Instant,
    why: Why,
}

/// The reason why puts to a node are paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The node did not answer in time.
    Hung,
    /// The node's replicas did not confirm a payload in time.
    TooFewReplicas,
    /// The node answers, and could not take a payload in all the time that a put has.
    Unready,
}

impl Why {
    /// The reason as text.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hung => "the node did not answer in time",
            Self::TooFewReplicas => "too few of its replicas confirm",
            Self::Unready => "the node or its cluster was not ready",
        }
    }
}

/// What a put may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Send its payload.
    Send,
    /// Send its payload once the node has shown that it is well.
    Probe,
    /// Nothing.
    Refused(Why),
}

impl Breaker {
    /// Asks for a put's admission. Of all that ask within `pause`, one may probe.
    pub(crate) fn admit(&self, pause: Duration) -> Admission {
        let mut opened = self.lock();
        let now = Instant::now();
        match opened.as_mut() {
            None => Admission::Send,
            Some(opened) if now < opened.until => Admission::Refused(opened.why),
            Some(opened) => {
                // If the probe is dropped half-way, another may follow after the pause.
                opened.until = now + pause;
                Admission::Probe
            }
        }
    }

    /// Opens the breaker for `pause`.
    pub(crate) fn open(&self, why: Why, pause: Duration) {
        *self.lock() = Some(Opened { until: Instant::now() + pause, why });
    }

    /// Closes it: a put has succeeded.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// Whether the node was found hanging less than a pause ago.
    pub(crate) fn is_hung(&self) -> bool {
        self.lock().as_ref().is_some_and(|opened| opened.why == Why::Hung && Instant::now() < opened.until)
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
        breaker.open(Why::TooFewReplicas, PAUSE);
        for _ in 0..2 {
            assert_eq!(breaker.admit(PAUSE), Admission::Refused(Why::TooFewReplicas));
            tokio::time::advance(PAUSE).await;
            assert_eq!(breaker.admit(PAUSE), Admission::Probe);
        }
        assert_eq!(breaker.admit(PAUSE), Admission::Refused(Why::TooFewReplicas), "one probe at a time");
        breaker.close();
        assert_eq!(breaker.admit(PAUSE), Admission::Send);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_counts_as_hung_until_the_pause_is_over() {
        let breaker = Breaker::default();
        breaker.open(Why::Hung, PAUSE);
        assert!(breaker.is_hung());
        tokio::time::advance(PAUSE).await;
        assert!(!breaker.is_hung());
        breaker.open(Why::TooFewReplicas, PAUSE);
        assert!(!breaker.is_hung(), "it answers");
    }
}
