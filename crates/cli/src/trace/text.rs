//! Prints a trace as text.

use std::time::Duration;

use custody_core::{clock::Timestamp, message::S3Reference, open_record::OpenState};
use serde_json::Value;

use super::{Open, Trace, payload::Place};
use crate::{
    dlq::waiting_text,
    failed::pending_text,
    open::payload_store_name,
    output::{format_duration, format_short_duration, table},
};

impl Trace {
    pub(super) fn print(&self, now: Timestamp) {
        let status = self.item["status"].as_str().unwrap_or("not in the record table");
        println!("record {}: {status}", self.message_id);
        self.print_times();
        if let Some(open) = &self.open {
            open.print(now);
        } else if !self.marker {
            println!("no open record: nothing is pending");
        }
        if self.marker {
            println!("the acceptance marker is not adopted by reconcile yet");
        }
        self.print_failure(status);
        if let Some(waiting) = waiting_text(self.redrives_waiting) {
            println!("{waiting}");
        }
        self.print_executions();
        self.print_payload();
    }

    fn print_times(&self) {
        let time_of = |value: &Value| value.as_str().and_then(Timestamp::parse);
        let mut events: Vec<(Timestamp, &str)> = [
            ("metadata stored", &self.item["metaDataStoredAt"]),
            ("archived", &self.item["archivedAt"]),
            ("completed", &self.item["completedAt"]),
            ("failed", &self.item["failedAt"]),
            ("discarded", &self.item["discarded"]["at"]),
        ]
        .into_iter()
        .filter_map(|(what, time)| Some((time_of(time)?, what)))
        .collect();
        events.push((self.received_at, "received"));
        events.sort_unstable_by_key(|(time, _)| *time);
        println!("{}", timeline(self.received_at, &events));
    }

    fn print_failure(&self, status: &str) {
        let of = |map: &Value, name: &str| map[name].as_str().unwrap_or_default().to_owned();
        let (failure, discarded) = (&self.item["failure"], &self.item["discarded"]);
        if status == "FAILED" && failure.is_object() {
            println!(
                "attempt {} failed in stage {}: {} ({}, {})",
                failure["attempt"],
                of(failure, "stage"),
                of(failure, "reason"),
                of(failure, "errorName"),
                of(failure, "kind")
            );
        }
        if discarded.is_object() {
            let (at, by, reason) = (of(discarded, "at"), of(discarded, "by"), of(discarded, "reason"));
            println!("attempt {} was discarded at {at} by {by}: {reason}", discarded["attempt"]);
        }
    }

    fn print_executions(&self) {
        for execution in &self.executions.list {
            let error = execution.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            println!(
                "\nattempt {}, start {}: {}{error}",
                execution.attempt, execution.start, execution.status
            );
            let mut lines = table(&["ENTERED", "MS", "STATE"]);
            for state in &execution.states {
                let duration = state.duration_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
                lines.add_row([&state.entered_at.to_string(), &duration, &state.name]);
            }
            println!("{lines}");
        }
        if !self.executions.history {
            println!(
                "\nexecutions: EXPRESS keeps no history; the log group of the state machine has the errors"
            );
        } else if self.executions.list.is_empty() {
            println!("\nno execution: none was started, or Step Functions deleted it after 90 days");
        }
    }

    fn print_payload(&self) {
        println!("\nthe payload:");
        for (place, what) in [(&self.payload.archived, "archived"), (&self.payload.preserved, "preserved")] {
            if let Some(Place { object: S3Reference { bucket, key }, sha256, size_bytes }) = place {
                println!("  {what}: s3://{bucket}/{key}, {size_bytes} bytes, sha256 {sha256}");
            }
        }
        println!("  cache: {} (only functions can reach the cache)", self.payload.cached.text());
    }
}

/// The longest bar of a timeline.
const BAR: u128 = 24;

/// Draws events in the order of time: when, how long after the beginning, and a bar whose length is that time.
fn timeline(began: Timestamp, events: &[(Timestamp, &str)]) -> String {
    let all = events.iter().map(|(time, _)| time.since(began).as_millis()).max().unwrap_or_default().max(1);
    let mut rows = table(&["TIME", "AFTER", "", ""]);
    for (time, what) in events {
        let after = time.since(began);
        let length = usize::try_from(after.as_millis() * BAR / all).unwrap_or_default();
        rows.add_row([
            time.to_string(),
            format!("+{}", format_short_duration(after)),
            (*what).to_owned(),
            format!("{}●", "─".repeat(length)),
        ]);
    }
    rows.to_string()
}

impl Open {
    fn print(&self, now: Timestamp) {
        let age = format_duration(now.since(self.begun_at));
        let state = match &self.state {
            OpenState::InProgress => "in progress".to_owned(),
            OpenState::Failed { pending_steps, .. } => {
                format!("failed, pending: {}", pending_text(pending_steps))
            }
        };
        println!("open: attempt {}, {state}; begun {age} ago", self.attempt);
        let next = self.look_at.since(now);
        let next =
            if next == Duration::ZERO { "due".to_owned() } else { format!("in {}", format_duration(next)) };
        println!(
            "  {} starts, {} looks, next look {next}; payload when the attempt began: {}",
            self.starts,
            self.looks,
            payload_store_name(self.durability)
        );
        if let Some(since) = self.missing_since {
            println!("  the payload has been missing from every store since {since}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_is_in_the_order_of_time_and_shows_milliseconds() {
        let at = |ms: i64| Timestamp::from_unix_ms(1_800_000_000_000 + ms).unwrap();
        let drawn = timeline(at(0), &[(at(0), "received"), (at(353), "archived"), (at(1_412), "completed")]);
        let lines: Vec<_> =
            drawn.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "AFTER",
                "+0 ms received ●",
                "+353 ms archived ──────●",
                &format!("+1.4 s completed {}●", "─".repeat(24))
            ]
        );
    }
}
