//! `custody failed`: failed records that wait for a decision. They are open records, so no expiry of a dead letter hides one.

use std::time::Duration;

use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    error::ErrorKind,
    open_record::{FailureDuty, OpenKind, OpenRecord, OpenState},
    record_id::RecordId,
};
use serde::Serialize;

use crate::{
    Done,
    deployment::Deployment,
    output::{Output, human, shortened, shown_of, table},
    survey::{self, COUNTED, survey},
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How many to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// What failed and is not decided.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Undecided {
    /// The oldest of them.
    records: Vec<Line>,
    count: usize,
    /// Whether there are more than `count`.
    at_least: bool,
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
    /// The time since the failure.
    age_seconds: u64,
    /// What reconcile has still to do about the failure itself.
    owed: Vec<FailureDuty>,
    /// When reconcile looks at the record next: to do what is owed, or to redrive it where that is automatic.
    look_at: Timestamp,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    Options { limit }: Options,
) -> anyhow::Result<Done> {
    let (open, now) = (deployment.open_records()?, SystemClock.now());
    let known = survey(&open, OpenKind::Failed, COUNTED.max(limit)).await?;
    let shown = &known.ids[..limit.min(known.ids.len())];
    let records = survey::read(&open, shown, OpenKind::Failed).await?;
    let answer = Undecided {
        records: records.iter().filter_map(|record| Line::of(record, now)).collect(),
        count: known.ids.len(),
        at_least: known.at_least,
    };
    output.print(&answer, Undecided::print)?;
    Ok(Done::All)
}

impl Line {
    fn of(record: &OpenRecord, now: Timestamp) -> Option<Self> {
        let OpenState::Failed { failure, owed } = &record.state else { return None };
        Some(Self {
            message_id: record.id(),
            attempt: record.attempt().number(),
            stage: failure.stage.clone(),
            kind: failure.kind,
            error_name: failure.error_name.clone(),
            reason: failure.reason.clone(),
            failed_at: failure.failed_at,
            age_seconds: now.since(failure.failed_at).as_secs(),
            owed: owed.clone(),
            look_at: record.look_at,
        })
    }

    fn cells(&self) -> [String; 7] {
        [
            self.message_id.to_string(),
            self.attempt.to_string(),
            self.stage.clone(),
            self.kind.to_string(),
            shortened(&self.reason, 120),
            human(Duration::from_secs(self.age_seconds)),
            owed_text(&self.owed),
        ]
    }
}

/// What a failed record is owed, in an operator's words.
pub(crate) fn owed_text(owed: &[FailureDuty]) -> String {
    if owed.is_empty() {
        return "a decision".to_owned();
    }
    let names = owed.iter().map(|duty| match duty {
        FailureDuty::Item => "item",
        FailureDuty::Unlink => "unlink",
        FailureDuty::DeadLetter => "dead letter",
        FailureDuty::Announcement => "announcement",
    });
    names.collect::<Vec<_>>().join(", ")
}

impl Undecided {
    fn print(&self) {
        if self.records.is_empty() {
            println!("No failed record waits for a decision.");
            return;
        }
        let mut lines = table(&["ID", "ATTEMPT", "STAGE", "KIND", "REASON", "AGE", "OWED"]);
        for line in &self.records {
            lines.add_row(line.cells());
        }
        let count = shown_of(
            self.records.len(),
            self.count,
            self.at_least,
            "undecided failed record",
            "undecided failed records",
        );
        println!("{lines}\n{count}");
    }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};

    use super::*;

    #[test]
    fn a_failed_record_tells_why_and_what_is_owed_however_old_it_is() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        let failure = contract::failure_of(&record.message);
        let now = failure.failed_at.after(Duration::from_hours(24 * 15));
        assert!(Line::of(&record, now).is_none(), "it is in progress");
        record.state = OpenState::Failed { failure: failure.clone(), owed: Vec::new() };
        let cells = Line::of(&record, now).unwrap().cells();
        assert_eq!(cells[1..], ["1", "archive", "Internal", "denied", "15 d 0 h", "a decision"]);
        record.state = OpenState::Failed { failure, owed: FailureDuty::ALL.to_vec() };
        let cells = Line::of(&record, now).unwrap().cells();
        assert_eq!(cells[6], "item, unlink, dead letter, announcement");
    }
}
