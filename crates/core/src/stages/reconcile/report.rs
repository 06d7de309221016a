//! The result of one run of reconcile: its output and its metrics.

use serde::{Deserialize, Serialize};

/// The result of one look at an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookResult {
    /// An execution was started.
    Started,
    /// An execution is running, or (`EXPRESS`) may still be running.
    Running,
    /// The record was complete or discarded, and was closed.
    Closed,
    /// The failure function has done all pending steps.
    Failed,
    /// The failed record was redriven.
    Redriven,
    /// The failed record waits for a decision of an operator.
    Undecided,
    /// No work: the record is closed, is not due, or another caller has taken its turn.
    NotDue,
    /// The work is left for a later look: a service was not available, the budget was used up, or steps are still
    /// pending.
    Postponed,
    /// An error occurred that an operator must correct; the log has the cause.
    Stuck,
}

/// The counts of one run of reconcile. Ages are in whole seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How many records are in progress.
    pub open: usize,
    /// The age of the oldest record in progress; zero if there is none.
    pub oldest_open_age_seconds: u64,
    /// How many records have been in progress for more than ten minutes.
    pub open_over_ten_minutes: usize,
    /// How many records have been in progress for more than an hour.
    pub open_over_an_hour: usize,
    /// How many failed records are open.
    pub failed: usize,
    /// The age of the oldest failed record; zero if there is none.
    pub oldest_failed_age_seconds: u64,
    /// Whether there may be more open records than were counted.
    pub at_least: bool,
    /// How many acceptance markers were found.
    pub markers: usize,
    /// How many acceptance markers were adopted.
    pub adopted: usize,
    /// How many records were due.
    pub due: usize,
    /// How many executions were started.
    pub started: usize,
    /// How many due records had a running execution.
    pub running: usize,
    /// How many records were closed.
    pub closed: usize,
    /// How many failures were handled.
    pub failures_handled: usize,
    /// How many failed records were redriven automatically.
    pub redriven: usize,
    /// How many due failed records wait for a decision of an operator.
    pub undecided: usize,
    /// How many due records were left for a later look, because a service was not available, the budget was used up, or
    /// steps are still pending.
    pub postponed: usize,
    /// How many records and markers an operator must look into.
    pub stuck: usize,
    /// How many due records were not looked at, because the time was up.
    pub not_reached: usize,
    /// How many errors occurred when markers were listed or adopted, without those that count as stuck.
    pub errors: usize,
}

impl Report {
    pub(super) fn count(&mut self, result: LookResult) {
        *match result {
            LookResult::Started => &mut self.started,
            LookResult::Running => &mut self.running,
            LookResult::Closed => &mut self.closed,
            LookResult::Failed => &mut self.failures_handled,
            LookResult::Redriven => &mut self.redriven,
            LookResult::Undecided => &mut self.undecided,
            LookResult::NotDue => return,
            LookResult::Postponed => &mut self.postponed,
            LookResult::Stuck => &mut self.stuck,
        } += 1;
    }
}
