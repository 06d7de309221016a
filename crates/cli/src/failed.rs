//! `custody failed`: lists failed records that wait for a decision. It reads the open records, so a record stays listed
//! after its dead letter has expired.

use std::time::Duration;

use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    error::ErrorKind,
    open_record::{FailureStep, OpenKind, OpenRecord, OpenState},
    record_id::RecordId,
};
use serde::Serialize;

use crate::{
    CommandOutcome,
    deployment::Deployment,
    dlq::waiting_text,
    output::{Output, format_duration, format_shown_count, table, truncated_text},
    survey::{self, MAX_COUNTED, survey},
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Maximum number of records to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Output of `custody failed`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Undecided {
    /// The oldest failed records that are not decided, at most `--limit`.
    records: Vec<Line>,
    count: usize,
    /// Whether more failed records are not decided than `count`.
    at_least: bool,
    /// How many of the failed records wait for a redrive that was asked for; null if the caller may not ask.
    redrives_waiting: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    attempt: u32,
    stage: String,
    kind: ErrorKind,
    error_name: String,
    reason: String,
    failed_at: Timestamp,
    /// Time since the attempt failed.
    age_seconds: u64,
    /// Effects of the failure that are not done yet: reconcile has the failure function do them.
    pending_steps: Vec<FailureStep>,
    /// When reconcile looks at the record next: to complete the pending steps, or to redrive the record automatically.
    look_at: Timestamp,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    Options { limit }: Options,
) -> anyhow::Result<CommandOutcome> {
    let (open, now) = (deployment.open_records()?, SystemClock.now());
    let known = survey(&open, OpenKind::Failed, MAX_COUNTED.max(limit)).await?;
    let shown = &known.ids[..limit.min(known.ids.len())];
    let records = survey::read(&open, shown, OpenKind::Failed).await?;
    let answer = Undecided {
        records: records.iter().filter_map(|record| Line::of(record, now)).collect(),
        count: known.ids.len(),
        at_least: known.at_least,
        redrives_waiting: deployment.redrives_waiting().await,
    };
    output.print(&answer, Undecided::print)?;
    Ok(CommandOutcome::Complete)
}

impl Line {
    fn of(record: &OpenRecord, now: Timestamp) -> Option<Self> {
        let OpenState::Failed { failure, pending_steps } = &record.state else { return None };
        Some(Self {
            message_id: record.id(),
            attempt: record.attempt().number(),
            stage: failure.stage.clone(),
            kind: failure.kind,
            error_name: failure.error_name.clone(),
            reason: failure.reason.clone(),
            failed_at: failure.failed_at,
            age_seconds: now.since(failure.failed_at).as_secs(),
            pending_steps: pending_steps.clone(),
            look_at: record.look_at,
        })
    }

    fn cells(&self) -> [String; 7] {
        [
            self.message_id.to_string(),
            self.attempt.to_string(),
            self.stage.clone(),
            self.kind.to_string(),
            truncated_text(&self.reason, 120),
            format_duration(Duration::from_secs(self.age_seconds)),
            pending_text(&self.pending_steps),
        ]
    }
}

/// Formats what a failed record waits for: its pending steps, or else a decision.
pub(crate) fn pending_text(pending_steps: &[FailureStep]) -> String {
    if pending_steps.is_empty() {
        return "a decision".to_owned();
    }
    let names = pending_steps.iter().map(|step| match step {
        FailureStep::Item => "item",
        FailureStep::Unlink => "unlink",
        FailureStep::DeadLetter => "dead letter",
        FailureStep::Announcement => "announcement",
    });
    names.collect::<Vec<_>>().join(", ")
}

impl Undecided {
    fn print(&self) {
        if self.records.is_empty() {
            println!("No failed record waits for a decision.");
            return;
        }
        let mut lines = table(&["ID", "ATTEMPT", "STAGE", "KIND", "REASON", "AGE", "PENDING"]);
        for line in &self.records {
            lines.add_row(line.cells());
        }
        let count = format_shown_count(
            self.records.len(),
            self.count,
            self.at_least,
            "undecided failed record",
            "undecided failed records",
        );
        println!("{lines}\n{count}");
        if let Some(waiting) = waiting_text(self.redrives_waiting) {
            println!("{waiting}");
        }
    }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn a_failed_record_reports_its_failure_and_its_pending_steps() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        let failure = contract::failure_of(&record.message);
        let now = failure.failed_at.after(Duration::from_hours(24 * 15));
        assert!(Line::of(&record, now).is_none(), "it is in progress");
        record.state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
        let cells = Line::of(&record, now).unwrap().cells();
        assert_eq!(cells[1..], ["1", "archive", "Internal", "denied", "15 d 0 h", "a decision"]);
        record.state = OpenState::Failed { failure, pending_steps: FailureStep::VARIANTS.to_vec() };
        let cells = Line::of(&record, now).unwrap().cells();
        assert_eq!(cells[6], "item, unlink, dead letter, announcement");
    }
}
