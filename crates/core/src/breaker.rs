//! A circuit breaker: after a service failed, requests do not ask it for a while.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::Timestamp;

/// Remembers until when a service must not be asked. The first request after that time asks it again.
#[derive(Debug)]
pub struct Breaker {
    pause: Duration,
    open_until_ms: AtomicI64,
}

impl Breaker {
    /// Creates a breaker that is open for `pause` after each failure.
    pub const fn new(pause: Duration) -> Self {
        Self { pause, open_until_ms: AtomicI64::new(0) }
    }

    /// Whether the service must not be asked now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let left_ms = self.open_until_ms.load(Ordering::Relaxed) - now.unix_ms();
        // A clock that was set back must not keep the breaker open.
        left_ms > 0 && left_ms.unsigned_abs() <= self.pause_ms()
    }

    /// Notes that the service failed.
    pub fn trip(&self, now: Timestamp) {
        let until = now.unix_ms().saturating_add_unsigned(self.pause_ms());
        self.open_until_ms.store(until, Ordering::Relaxed);
    }

    /// Notes that the service answered.
    pub fn reset(&self) {
        self.open_until_ms.store(0, Ordering::Relaxed);
    }

    fn pause_ms(&self) -> u64 {
        u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_opens_for_its_pause_and_survives_a_clock_that_jumps() {
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        let breaker = Breaker::new(Duration::from_secs(2));
        assert!(!breaker.is_open(at(10_000)));
        breaker.trip(at(10_000));
        assert!(breaker.is_open(at(10_000)) && breaker.is_open(at(11_999)));
        assert!(!breaker.is_open(at(12_000)), "the pause is over");
        assert!(!breaker.is_open(at(5_000)), "the clock was set back");
        breaker.trip(at(10_000));
        breaker.reset();
        assert!(!breaker.is_open(at(10_001)));
    }
}
