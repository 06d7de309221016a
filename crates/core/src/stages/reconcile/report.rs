//! What one run of reconcile saw and did: its output and its metrics.

use serde::{Deserialize, Serialize};

/// What became of an open record that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// An execution was started.
    Started,
    /// An execution is under way.
    Running,
    /// The record was complete, or discarded; it is closed now.
    Closed,
    /// The failure function has done its part.
    Failed,
    /// The failed record is at its next attempt.
    Redriven,
    /// The failed record waits for a person.
    Undecided,
    /// The record was closed, or another copy of reconcile had its turn.
    NotDue,
    /// A service could not be had, or the budget is used up.
    Postponed,
    /// Nothing helps before a person has looked; the log tells why.
    Stuck,
}

/// The counts of one run. Ages are in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many records are in progress.
    pub open: usize,
    /// The age of the oldest of them; zero where there is none.
    pub oldest_open_age_seconds: u64,
    /// How many failed records are not decided.
    pub failed: usize,
    /// The age of the oldest of them; zero where there is none.
    pub oldest_failed_age_seconds: u64,
    /// Whether there are more than were counted.
    pub at_least: bool,
    /// How many acceptance markers were found.
    pub markers: usize,
    /// How many of them were adopted.
    pub adopted: usize,
    /// How many records were due.
    pub due: usize,
    /// How many of these were started.
    pub started: usize,
    /// How many were under way.
    pub running: usize,
    /// How many were closed.
    pub closed: usize,
    /// How many failures were handled.
    pub failures_handled: usize,
    /// How many failed records were redriven automatically.
    pub redriven: usize,
    /// How many failed records wait for a person.
    pub undecided: usize,
    /// How many were left for the next run, because a service could not be had or the budget was used up.
    pub postponed: usize,
    /// How many need a person.
    pub stuck: usize,
    /// How many were left for the next run, because the time was up.
    pub not_reached: usize,
    /// How many markers, or lists of them, could not be read or adopted.
    pub errors: usize,
}

impl Report {
    pub(super) fn count(&mut self, looked: Looked) {
        *match looked {
            Looked::Started => &mut self.started,
            Looked::Running => &mut self.running,
            Looked::Closed => &mut self.closed,
            Looked::Failed => &mut self.failures_handled,
            Looked::Redriven => &mut self.redriven,
            Looked::Undecided => &mut self.undecided,
            Looked::NotDue => return,
            Looked::Postponed => &mut self.postponed,
            Looked::Stuck => &mut self.stuck,
        } += 1;
    }
}
