//! `custody open`: lists records in progress, and acceptance markers that are not adopted yet.

use clap::Args;
use custody_core::{
    attempt::Attempt,
    clock::{Clock as _, SystemClock, Timestamp},
    open_record::{OpenKind, OpenRecord},
    ports::AcceptanceMarkers as _,
    receipt::Durability,
    record_id::RecordId,
};
use serde::Serialize;

use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{Output, format_count, format_duration, format_shown_count, table_with_id},
    survey::{self, MAX_COUNTED, survey},
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Maximum number of records, and of markers, to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Maximum number of acceptance markers that are counted: one page of the bucket's listing.
const MAX_COUNTED_MARKERS: usize = 1000;

/// Output of `custody open`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InProgress {
    /// The oldest records in progress, at most `--limit`.
    records: Vec<Line>,
    count: usize,
    /// Whether more records are in progress than `count`.
    at_least: bool,
    /// Acceptance markers that reconcile has not adopted yet, at most `--limit`.
    markers: Vec<Marker>,
    markers_count: usize,
    markers_at_least: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    attempt: u32,
    /// Time since the record was received.
    age_seconds: u64,
    starts: u32,
    looks: u32,
    look_at: Timestamp,
    durability: Durability,
    missing_since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    attempt: u32,
    age_seconds: u64,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    Options { limit }: Options,
) -> anyhow::Result<CommandOutcome> {
    let (open, markers, now) = (deployment.open_records()?, deployment.markers()?, SystemClock.now());
    // Markers are listed before open records: a record that is adopted in between is then seen in both lists. In the
    // other order, it could be seen in neither.
    let (marked, is_known) = match markers.list(MAX_COUNTED_MARKERS + 1).await {
        Ok(marked) => (marked, true),
        // The records are shown also while S3 is away.
        Err(error) => {
            output.complain(&format!("how many acceptance markers there are is not known, because S3 cannot be read: {error}; `custody doctor` says more"));
            (Vec::new(), false)
        }
    };
    let known = survey(&open, OpenKind::InProgress, MAX_COUNTED.max(limit)).await?;
    let shown = &known.ids[..limit.min(known.ids.len())];
    let records = survey::read(&open, shown, OpenKind::InProgress).await?;
    let answer = InProgress {
        records: records.iter().map(|record| Line::of(record, now)).collect(),
        count: known.ids.len(),
        at_least: known.at_least,
        markers: marked.iter().take(limit).map(|attempt| Marker::of(*attempt, now)).collect(),
        markers_count: marked.len().min(MAX_COUNTED_MARKERS),
        markers_at_least: !is_known || marked.len() > MAX_COUNTED_MARKERS,
    };
    output.print(&answer, |answer| answer.print(now))?;
    Ok(if is_known { CommandOutcome::Complete } else { CommandOutcome::Partial })
}

impl Line {
    fn of(record: &OpenRecord, now: Timestamp) -> Self {
        Self {
            message_id: record.id(),
            attempt: record.attempt().number(),
            age_seconds: now.since(record.message.accepted_at()).as_secs(),
            starts: record.starts,
            looks: record.looks,
            look_at: record.look_at,
            durability: record.durability,
            missing_since: record.missing_since,
        }
    }

    fn cells(&self, now: Timestamp) -> [String; 8] {
        let next = if self.look_at > now {
            format!("in {}", format_duration(self.look_at.since(now)))
        } else {
            format!("due {} ago", format_duration(now.since(self.look_at)))
        };
        [
            self.message_id.to_string(),
            self.attempt.to_string(),
            format_duration(std::time::Duration::from_secs(self.age_seconds)),
            self.starts.to_string(),
            self.looks.to_string(),
            next,
            payload_store_name(self.durability).to_owned(),
            self.missing_since.map_or_else(|| "-".to_owned(), |since| since.to_string()),
        ]
    }
}

/// Names the store that had the payload of an attempt when the attempt began.
pub(crate) const fn payload_store_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Durable => "cache, durable",
        Durability::Replicated => "cache, replicated",
        Durability::Archived => "S3",
    }
}

impl Marker {
    fn of(attempt: Attempt, now: Timestamp) -> Self {
        Self {
            message_id: attempt.record,
            attempt: attempt.number(),
            age_seconds: now.since(attempt.record.received_at()).as_secs(),
        }
    }
}

impl InProgress {
    fn print(&self, now: Timestamp) {
        if self.records.is_empty() {
            println!("No record is in progress.");
        } else {
            let mut lines = table_with_id(&[
                "ID",
                "ATTEMPT",
                "AGE",
                "STARTS",
                "LOOKS",
                "NEXT LOOK",
                "PAYLOAD IN",
                "MISSING SINCE",
            ]);
            for line in &self.records {
                lines.add_row(line.cells(now));
            }
            let shown = self.records.len();
            let count = format_shown_count(
                shown,
                self.count,
                self.at_least,
                "record in progress",
                "records in progress",
            );
            println!("{lines}\n{count}");
        }
        if self.markers_count > 0 {
            let count = format_count(
                self.markers_count,
                self.markers_at_least,
                "acceptance marker is",
                "acceptance markers are",
            );
            println!(
                "\n{count} not adopted yet; reconcile adopts up to 2,000 a minute once the open-record table works:"
            );
            for marker in &self.markers {
                let age = format_duration(std::time::Duration::from_secs(marker.age_seconds));
                println!("  {}, attempt {}, {age}", marker.message_id, marker.attempt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use custody_core::testing::samples;

    use super::*;

    #[test]
    fn a_line_tells_how_old_a_record_is_and_when_it_is_looked_at() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        let now = record.message.received_at.after(Duration::from_mins(1));
        let cells = Line::of(&record, now).cells(now);
        assert_eq!(cells[1..], ["1", "1 min 0 s", "1", "0", "in 1 min 0 s", "cache, replicated", "-"]);
        record.look_at = record.message.received_at;
        record.missing_since = Some(record.look_at);
        let cells = Line::of(&record, now).cells(now);
        assert_eq!(cells[5], "due 1 min 0 s ago");
        assert_eq!(cells[7], record.look_at.to_string());
    }
}
