//! The budget of one run of reconcile.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Settings;
use crate::clock::Timestamp;

/// The number of failed starts after which one run starts no further executions.
const MAX_FAILED_STARTS: usize = 20;

/// The time and the starts that one run of reconcile may still use.
#[derive(Debug)]
pub(super) struct Budget {
    began: Timestamp,
    settings: Settings,
    starts: AtomicUsize,
    failed_starts: AtomicUsize,
}

impl Budget {
    pub(super) fn new(began: Timestamp, settings: Settings) -> Self {
        Self { began, settings, starts: AtomicUsize::new(0), failed_starts: AtomicUsize::new(0) }
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now.distance(self.began) >= self.settings.budget
    }

    /// Takes one start out of the budget. Returns whether the run may make it.
    pub(super) fn take_start(&self) -> bool {
        self.failed_starts.load(Ordering::Relaxed) < MAX_FAILED_STARTS
            && self.starts.fetch_add(1, Ordering::Relaxed) < self.settings.max_starts
    }

    /// Counts a start that failed because Step Functions was unavailable.
    pub(super) fn note_failed_start(&self) {
        self.failed_starts.fetch_add(1, Ordering::Relaxed);
    }
}
