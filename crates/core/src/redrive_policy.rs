//! How often failed records are tried again, and what waits for a person.

use std::time::Duration;

use crate::{dead_letter::FailureSummary, error::ErrorKind, message::InternalMessage};

/// For how long transient failures are redriven in production: longer than the outage that the deployment promises to
/// ride out.
pub const PATIENCE: Duration = Duration::from_mins(75);

/// When reconcile looks again at a failed record that waits for a person.
pub const DECISION_INTERVAL: Duration = Duration::from_hours(6);

/// How often a record is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// Whether transient failures are redriven without a person's word.
    pub automatic: bool,
    /// After how many redrives a record is parked: it waits for a person who insists.
    pub max_attempts: u32,
    /// For how long, at least, transient failures are redriven before they park. An outage of an hour parks nothing.
    pub patience: Duration,
}

impl RedrivePolicy {
    /// Whether a record has had all the attempts that it may have without a person's word. `waited` is the time since its
    /// first failure.
    pub fn is_parked(&self, kind: ErrorKind, attempt: u32, waited: Duration) -> bool {
        attempt > self.max_attempts && (kind != ErrorKind::Transient || waited >= self.patience)
    }

    /// Whether an attempt that has failed is followed by another without a person's word. It is judged as of the time when it
    /// failed: a redrive that comes late is not one too many.
    pub fn redrives(&self, message: &InternalMessage, failure: &FailureSummary) -> bool {
        let first = message.history().first().map_or(failure.failed_at, |past| past.failed_at);
        let waited = failure.failed_at.since(first);
        self.automatic
            && failure.kind == ErrorKind::Transient
            && failure.payload_reference.is_some()
            && !self.is_parked(failure.kind, failure.attempt, waited)
    }
}
