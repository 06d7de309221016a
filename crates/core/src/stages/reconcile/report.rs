//! What one run of reconcile saw and did: its output and its metrics.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What became of a pending run that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Its execution did not exist and does now.
    Started,
    /// Its execution is under way.
    Running,
    /// It was at its end already.
    Cleared,
    /// Its execution had ended without the failure function, which has done its part now.
    Failed,
    /// A service could not be had, or has answered enough for now.
    Postponed,
    /// It cannot be helped before a person has looked; the log says why.
    Stuck,
}

/// The counts of one run. Ages are in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many runs are pending.
    pub pending: usize,
    /// How long the oldest of them has been; zero where there is none.
    pub oldest_pending_age_seconds: u64,
    /// How many were old enough to look at.
    pub due: usize,
    /// Of these: started.
    pub started: usize,
    /// Under way.
    pub running: usize,
    /// Cleared.
    pub cleared: usize,
    /// Brought to their bad end.
    pub failed: usize,
    /// Left for the next run, because a service could not be had or has answered enough.
    pub postponed: usize,
    /// In need of a person.
    pub stuck: usize,
    /// Left for the next run, because the time was up.
    pub not_reached: usize,
    /// How many of the two stores could not say what is pending.
    pub errors: usize,
}

impl Report {
    pub(super) fn new(since: impl Iterator<Item = Timestamp>, now: Timestamp) -> Self {
        let mut report = Self::default();
        for since in since {
            report.pending += 1;
            let age = now.since(since).as_secs();
            report.oldest_pending_age_seconds = report.oldest_pending_age_seconds.max(age);
        }
        report
    }

    pub(super) fn count(&mut self, looked: Looked) {
        *match looked {
            Looked::Started => &mut self.started,
            Looked::Running => &mut self.running,
            Looked::Cleared => &mut self.cleared,
            Looked::Failed => &mut self.failed,
            Looked::Postponed => &mut self.postponed,
            Looked::Stuck => &mut self.stuck,
        } += 1;
    }
}
