//! Prints a trace as text.

use std::time::Duration;

use custody_core::{clock::Timestamp, message::S3Reference, open_record::OpenState, remedy::Remedy};
use serde_json::Value;

use super::{
    NotKnown, Open, Part, Trace,
    payload::{Payload, Place},
};
use crate::{
    failed::waits_for,
    open::payload_store_name,
    output::{format_count, format_duration, format_short_duration, table},
    redrives,
};

impl Trace {
    /// The trace as a person reads it.
    pub(super) fn text(&self, now: Timestamp) -> String {
        let absent = if self.knows(Part::Item) { "not in the record table" } else { "its item is not known" };
        let status = self.item["status"].as_str().unwrap_or(absent);
        let mut lines = vec![format!("record {}: {status}", self.message_id), self.times()];
        if let Some(open) = &self.open {
            let is_discarded = self.item["discarded"]["attempt"] == open.attempt;
            lines.push(open.text(now, is_discarded));
            if matches!(open.state, OpenState::Failed { .. }) && !self.knows(Part::Item) {
                lines.push("  whether it is discarded is not known".to_owned());
            }
        } else if !self.marker && self.knows(Part::OpenRecord) && self.knows(Part::Marker) {
            lines.push("no open record: nothing is pending".to_owned());
        }
        if self.marker {
            lines.push("the acceptance marker is not adopted by reconcile yet".to_owned());
        }
        lines.extend(self.failure(status));
        if self.open.as_ref().is_none_or(|open| open.redrive_at.is_none()) {
            lines.extend(redrives::count_text(self.redrives_waiting));
        }
        lines.extend(self.executions());
        lines.extend(self.payload.as_ref().map(payload_text));
        lines.extend(self.next_steps(status));
        if !self.not_known.is_empty() {
            lines.push(
                "\nnot known, because these parts cannot be read (`custody doctor` says what is the matter):"
                    .to_owned(),
            );
            lines.extend(
                self.not_known.iter().map(|NotKnown { part, why }| {
                    format!("  {}: {why}", <&str>::from(part).replace('-', " "))
                }),
            );
        }
        lines.join("\n")
    }

    fn times(&self) -> String {
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
        events.insert(0, (self.received_at, "received"));
        events.sort_by_key(|(time, _)| *time);
        timeline(self.received_at, &events)
    }

    fn failure(&self, status: &str) -> Vec<String> {
        let of = |map: &Value, name: &str| map[name].as_str().unwrap_or_default().to_owned();
        let (failure, discarded) = (&self.item["failure"], &self.item["discarded"]);
        let mut lines = Vec::new();
        if status == "FAILED" && failure.is_object() {
            let error_name = of(failure, "errorName");
            lines.push(format!(
                "attempt {} failed in stage {}: {} ({error_name}, {})",
                failure["attempt"],
                of(failure, "stage"),
                of(failure, "reason"),
                of(failure, "kind")
            ));
            if !discarded.is_object() {
                lines.push(format!("  helps: {}", Remedy::of(&error_name).text()));
            }
        }
        if discarded.is_object() {
            let (at, by, reason) = (of(discarded, "at"), of(discarded, "by"), of(discarded, "reason"));
            lines.push(format!("attempt {} was discarded at {at} by {by}: {reason}", discarded["attempt"]));
        }
        lines
    }

    fn executions(&self) -> Vec<String> {
        let Some(executions) = &self.executions else { return Vec::new() };
        let mut lines = Vec::new();
        for execution in &executions.list {
            let error = execution.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            let mut states = table(&["ENTERED", "MS", "STATE"]);
            for state in &execution.states {
                let duration = state.duration_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
                states.add_row([&state.entered_at.to_string(), &duration, &state.name]);
            }
            lines.push(format!(
                "\nattempt {}, start {}: {}{error}\n{states}",
                execution.attempt, execution.start, execution.status
            ));
        }
        if !executions.history {
            lines.push(
                "\nexecutions: EXPRESS keeps no history; the log group of the state machine has the errors"
                    .to_owned(),
            );
        } else if executions.list.is_empty() {
            lines.push(
                "\nno execution: none was started, or Step Functions deleted it after 90 days".to_owned(),
            );
        }
        lines
    }

    /// What a person can do with a failed record: decide it, or redrive it although it is discarded.
    fn next_steps(&self, status: &str) -> Option<String> {
        let discarded = self.item["discarded"]["attempt"].as_u64();
        let is_closed = self.open.is_none() && self.knows(Part::OpenRecord);
        if is_closed && status == "FAILED" && discarded >= self.item["failure"]["attempt"].as_u64() {
            let id = self.message_id;
            return Some(format!(
                "\nThe record gets no further attempt. To redrive it nevertheless: custody dlq redrive --id {id} --now --wait --force"
            ));
        }
        let waits = self.open.as_ref().filter(|open| {
            let is_due =
                matches!(&open.state, OpenState::Failed { pending_steps, .. } if pending_steps.is_empty());
            is_due && open.redrive_at.is_none() && self.item["discarded"]["attempt"] != open.attempt
        })?;
        let id = self.message_id;
        let error_name = self.item["failure"]["errorName"].as_str().unwrap_or_default();
        if status == "FAILED" && Remedy::of(error_name) == Remedy::CompareThenDecide {
            let insist = if waits.parked { " --force" } else { "" };
            return Some(format!(
                "\nNext: something else has the key of this record, and a redrive fails as long as it is there. docs/runbooks/FailedRecordAlarm.md,\n\
                 \"A conflict\", says how to keep it as evidence and to take it away; then: custody dlq redrive --id {id} --now --wait{insist}"
            ));
        }
        let insist = if waits.parked { " --force" } else { "" };
        (status == "FAILED").then(|| {
            format!(
                "\nNext, when the cause is gone: custody dlq redrive --id {id} --now --wait{insist}\n\
                 To leave it failed: custody dlq discard --id {id} --reason TEXT"
            )
        })
    }
}

fn payload_text(payload: &Payload) -> String {
    let mut lines = vec!["\nthe payload:".to_owned()];
    for (place, what) in [(&payload.archived, "archived"), (&payload.preserved, "preserved")] {
        if let Some(Place { object: S3Reference { bucket, key }, sha256, size_bytes }) = place {
            lines.push(format!("  {what}: s3://{bucket}/{key}, {size_bytes} bytes, sha256 {sha256}"));
        }
    }
    lines.push(format!("  cache: {} (only functions can reach the cache)", payload.cached.text()));
    lines.join("\n")
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
    fn text(&self, now: Timestamp, is_discarded: bool) -> String {
        let age = format_duration(now.since(self.begun_at));
        let state = match &self.state {
            OpenState::InProgress => "in progress".to_owned(),
            OpenState::Failed { .. } if is_discarded => {
                "discarded, reconcile closes it within a minute".to_owned()
            }
            OpenState::Failed { pending_steps, .. } => {
                let parked = if self.parked { ", parked" } else { "" };
                format!("failed{parked}, waits for: {}", waits_for(pending_steps, self.redrive_at, now))
            }
        };
        let next = self.look_at.since(now);
        let next =
            if next == Duration::ZERO { "due".to_owned() } else { format!("in {}", format_duration(next)) };
        let count = |count: u32, one, many| format_count(count as usize, false, one, many);
        let missing = self
            .missing_since
            .map(|since| format!("\n  the payload has been missing from every store since {since}"));
        format!(
            "open: attempt {}, {state}; begun {age} ago\n  {}, {}, next look {next}; payload when the attempt began: {}{}",
            self.attempt,
            count(self.starts, "start", "starts"),
            count(self.looks, "look", "looks"),
            payload_store_name(self.durability),
            missing.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use custody_core::{
        redrive_policy::RedrivePolicy,
        testing::{contract, samples},
    };
    use serde_json::json;

    use super::*;
    use crate::trace::{
        executions::Executions,
        payload::{Cached, Payload},
    };

    /// The state of a record that has failed and waits for its redrive: what an operator sees in the minutes in between.
    #[test]
    fn a_failed_record_says_what_it_waits_for_and_what_helps() {
        let id = "019e1f4b-6c00-7abc-8def-0123456789ab".parse().unwrap();
        let mut record = samples::open_record(&samples::message_of(id, b"payload"));
        let failure = contract::failure_of(&record.message);
        let now = failure.failed_at.after(Duration::from_secs(30));
        record.redrive_at = Some(now.after(Duration::from_mins(4)));
        record.look_at = now.after(Duration::from_hours(6));
        record.state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
        let policy = RedrivePolicy { automatic: true, max_attempts: 3, patience: Duration::from_mins(75) };
        let mut trace = Trace {
            message_id: record.id(),
            received_at: failure.failed_at,
            marker: false,
            open: Some(Open::of(record, policy, now)),
            item: json!({"status": "FAILED", "failure": failure, "failedAt": failure.failed_at}),
            executions: Some(Executions { history: true, list: Vec::new() }),
            payload: Some(Payload { archived: None, preserved: None, cached: Cached::NotExpected }),
            not_known: Vec::new(),
            redrives_waiting: Some(1),
        };
        insta::assert_snapshot!("a_redrive_waits", trace.text(now));
        if let Some(open) = &mut trace.open {
            open.redrive_at = None;
        }
        trace.redrives_waiting = None;
        insta::assert_snapshot!("a_decision_waits", trace.text(now));
        trace.item["failure"]["errorName"] = "ArchiveConflict".into();
        let text = trace.text(now);
        assert!(text.contains("\"A conflict\"") && !text.contains("when the cause is gone"), "{text}");
        trace.item["failure"]["errorName"] = "AccessDenied".into();
        if let Some(open) = &mut trace.open {
            open.parked = true;
        }
        trace.executions = None;
        trace.not_known =
            vec![NotKnown { part: Part::Executions, why: "the service answered 503".to_owned() }];
        let text = trace.text(now);
        assert!(
            text.contains("not known") && text.contains("  executions: the service answered 503"),
            "{text}"
        );
        assert!(!text.contains("no execution"), "that is not known: {text}");
        assert!(
            text.contains("failed, parked, waits for: a decision") && text.contains("--wait --force"),
            "{text}"
        );
    }

    #[test]
    fn a_discarded_record_that_is_closed_says_how_it_gets_another_attempt() {
        let message = samples::message(b"payload");
        let failure = contract::failure_of(&message);
        let mut trace = Trace {
            message_id: message.message_id,
            received_at: failure.failed_at,
            marker: false,
            open: None,
            item: json!({"status": "FAILED", "failure": failure, "discarded": {"attempt": 1}}),
            executions: None,
            payload: None,
            not_known: Vec::new(),
            redrives_waiting: None,
        };
        let text = trace.text(message.received_at);
        assert!(text.contains("no open record") && text.contains("--force"), "{text}");
        trace.not_known = vec![NotKnown { part: Part::OpenRecord, why: "away".to_owned() }];
        let text = trace.text(message.received_at);
        assert!(!text.contains("no open record") && !text.contains("--force"), "{text}");
        trace.item["discarded"] = json!(null);
        trace.not_known.clear();
        assert!(!trace.text(message.received_at).contains("--force"));
    }

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
