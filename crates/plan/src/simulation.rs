//! A simulation of one deployment under load: what quotas, durations and retries make of records that come faster than usual, or while S3 is
//! away.
//!
//! It simulates records one group at a time, in order of time. It knows the deployment's limits from [`Cell`], and how the workflow retries from
//! the state machine (a drift test compares). It does not know network, cold starts or the noise of a real service: times of its outcome are
//! those of an ideal deployment, and what it shows is where records are refused and where they wait.

mod cell;
mod events;
mod limits;

use serde::Serialize;

use self::events::Run;
pub use self::{
    cell::{Cell, REQUESTS_AT_ONCE, RETRIES_OF_ARCHIVE, Raised, Retries, STARTS_OF_A_RUN},
    events::FIRST_LOOK,
};

/// What happens while records come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum Situation {
    /// Records come at the planned rate, and nothing fails.
    Steady,
    /// Records come at a multiple of the rate for some seconds.
    Burst { times: f64, seconds: f64 },
    /// S3 answers nothing for some seconds.
    ArchiveAway { seconds: f64 },
    /// Step Functions starts nothing for some seconds.
    WorkflowAway { seconds: f64 },
}

/// When the event of a situation begins, in seconds.
const BEGINS: f64 = 30.0;
/// How long records come, in seconds.
const LASTS: f64 = 300.0;

/// What became of the records of one deployment.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Records that were sent.
    pub records: f64,
    /// Requests that got a 429 or a 503, by what was used up; first, what was used up first. Their producers send them again.
    pub refused: Vec<(&'static str, f64)>,
    /// The longest time from the first request of a record to its receipt, in seconds.
    pub longest_receipt: f64,
    /// Records that reconcile had to start, because their first start was refused or their attempt had failed.
    pub started_by_reconcile: f64,
    /// Payloads that did not fit into the cache.
    pub past_the_cache: f64,
    /// The most that the cache held, as a share of its memory.
    pub cache_peak: f64,
    /// The time from receipt to completion that 99 % of the records did not exceed, in seconds.
    pub completed_p99: f64,
    /// The longest time from receipt to completion, in seconds.
    pub longest_completion: f64,
    /// Records that were not complete after a day.
    pub incomplete: f64,
}

impl Outcome {
    /// Returns the number of records that were complete in the end.
    pub fn completed(&self) -> f64 {
        self.records - self.incomplete
    }

    /// Returns the number of requests that were refused.
    pub fn refusals(&self) -> f64 {
        self.refused.iter().map(|(_, records)| records).sum()
    }
}

/// Simulates five minutes of records, and goes on until all are complete.
pub fn simulate(cell: &Cell, situation: Situation) -> Outcome {
    Run::new(cell, situation).finish()
}

#[cfg(test)]
mod tests;
