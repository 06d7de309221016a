//! The redrive policy: how often failed records are redriven automatically, and which of them wait for an operator.

use std::time::Duration;

use crate::{clock::Timestamp, dead_letter::FailureSummary, error::ErrorKind, message::InternalMessage};

/// How long transient failures are redriven in production: longer than the longest outage that the deployment promises
/// to survive.
pub const PATIENCE: Duration = Duration::from_mins(75);

/// How long after a look reconcile looks again at a failed record that waits for an operator.
pub const DECISION_INTERVAL: Duration = Duration::from_hours(6);

/// The rules by which failed records are redriven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// Whether transient failures are redriven without a decision of an operator.
    pub automatic: bool,
    /// The number of redrives after which a record is parked: it is not redriven again until an operator forces it.
    pub max_attempts: u32,
    /// The minimum time for which transient failures are redriven before their records are parked. An outage of an hour
    /// parks nothing.
    pub patience: Duration,
}

impl RedrivePolicy {
    /// Returns whether a record has used up the attempts that it may have without a decision of an operator. `waited`
    /// is the time since its first failure.
    pub fn is_parked(&self, kind: ErrorKind, attempt: u32, waited: Duration) -> bool {
        attempt > self.max_attempts && (kind != ErrorKind::Transient || waited >= self.patience)
    }

    /// Returns whether the redrive of a failed attempt needs an operator who insists, if it is made now.
    pub fn parks(&self, message: &InternalMessage, failure: &FailureSummary, now: Timestamp) -> bool {
        let first = message.history().first().map_or(failure.failed_at, |past| past.failed_at);
        self.is_parked(failure.kind, failure.attempt, now.since(first))
    }

    /// Returns whether a failed attempt is redriven automatically. The decision depends on the time when the attempt
    /// failed and not on the current time, so that a delayed redrive is still made.
    pub fn redrives(&self, message: &InternalMessage, failure: &FailureSummary) -> bool {
        let first = message.history().first().map_or(failure.failed_at, |past| past.failed_at);
        let waited = failure.failed_at.since(first);
        self.automatic
            && failure.kind == ErrorKind::Transient
            && failure.payload_reference.is_some()
            && !self.is_parked(failure.kind, failure.attempt, waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{contract, samples};

    #[test]
    fn a_record_is_parked_when_its_redrives_are_used_up_and_a_transient_failure_only_after_a_long_time() {
        let policy = RedrivePolicy { automatic: true, max_attempts: 3, patience: PATIENCE };
        let message = samples::message(b"payload");
        let mut failure = contract::failure_of(&message);
        let now = failure.failed_at.after(Duration::from_mins(10));
        for (attempt, kind, is_parked) in [
            (3, ErrorKind::Internal, false),
            (4, ErrorKind::Internal, true),
            (4, ErrorKind::Transient, false),
        ] {
            (failure.attempt, failure.kind) = (attempt, kind);
            assert_eq!(policy.parks(&message, &failure, now), is_parked, "{attempt} {kind}");
        }
        assert!(policy.parks(&message, &failure, failure.failed_at.after(PATIENCE)));
    }
}
