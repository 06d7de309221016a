//! `custody failed`: lists failed records that wait for a decision. It reads the open records, so a record stays listed
//! after its dead letter has expired.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    error::ErrorKind,
    open_record::{FailureStep, OpenKind, OpenRecord, OpenState},
    ports::RecordTable as _,
    record_id::RecordId,
    redrive_policy::RedrivePolicy,
    remedy::Remedy,
};
use serde::Serialize;

use crate::{
    CommandOutcome,
    causes::{INDENT, cause_of, helps, in_lines},
    deployment::Deployment,
    output::{Output, format_duration, format_shown_count},
    redrives,
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
    /// What brings the record to its end.
    remedy: Remedy,
    reason: String,
    failed_at: Timestamp,
    /// Time since the attempt failed.
    age_seconds: u64,
    /// Effects of the failure that are not done yet: reconcile has the failure function do them.
    pending_steps: Vec<FailureStep>,
    /// When the redrive is due that somebody has asked for; null if nobody has.
    redrive_at: Option<Timestamp>,
    /// Whether somebody has discarded the record: reconcile closes it within a minute.
    discarded: bool,
    /// Whether its redrives are used up: only `--force` redrives it.
    parked: bool,
    /// Whether reconcile redrives it by itself, at its next look.
    redriven_by_itself: bool,
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
    let policy = deployment.redrive_policy()?;
    let mut lines: Vec<Line> = records.iter().filter_map(|record| Line::of(record, policy, now)).collect();
    let table = deployment.table()?;
    let ids: Vec<_> = lines.iter().map(|line| line.message_id).collect();
    // The list is needed most in an outage, so it does not depend on the record table.
    let states = table.states(&ids).await.unwrap_or_else(|error| {
        eprintln!("warning: some of these records may be discarded, which is not known: {error}");
        BTreeMap::new()
    });
    for line in &mut lines {
        let state = states.get(&line.message_id);
        line.discarded = state.is_some_and(|state| state.discard_of(line.attempt).is_some());
    }
    let answer = Undecided {
        records: lines,
        count: known.ids.len(),
        at_least: known.at_least,
        redrives_waiting: deployment.redrives_waiting().await,
    };
    output.print(&answer, |answer| println!("{}", answer.text(now)))?;
    Ok(CommandOutcome::Complete)
}

impl Line {
    fn of(record: &OpenRecord, policy: RedrivePolicy, now: Timestamp) -> Option<Self> {
        let OpenState::Failed { failure, pending_steps } = &record.state else { return None };
        Some(Self {
            message_id: record.id(),
            attempt: record.attempt().number(),
            stage: failure.stage.clone(),
            kind: failure.kind,
            error_name: failure.error_name.clone(),
            remedy: Remedy::of(&failure.error_name),
            reason: failure.reason.clone(),
            failed_at: failure.failed_at,
            age_seconds: now.since(failure.failed_at).as_secs(),
            pending_steps: pending_steps.clone(),
            redrive_at: record.redrive_at,
            discarded: false,
            parked: policy.parks(&record.message, failure, now),
            redriven_by_itself: policy.redrives(&record.message, failure),
            look_at: record.look_at,
        })
    }

    /// The record in one line, below what it has in common with others.
    fn text(&self, now: Timestamp) -> String {
        let age = format_duration(Duration::from_secs(self.age_seconds));
        let attempt = if self.attempt > 1 { format!(", attempt {}", self.attempt) } else { String::new() };
        format!("  {}  {age} ago{attempt}: {}", self.message_id, self.waits_for(now))
    }

    /// Whether the record waits for a decision, and for nothing else.
    fn is_undecided(&self, now: Timestamp) -> bool {
        self.pending_steps.is_empty()
            && !redrives::waits(self.redrive_at, now)
            && !self.discarded
            && !self.redriven_by_itself
    }

    /// Says what the record waits for.
    fn waits_for(&self, now: Timestamp) -> String {
        if self.discarded && self.pending_steps.is_empty() {
            return "reconcile: it is discarded".to_owned();
        }
        let is_settled = self.pending_steps.is_empty() && self.redrive_at.is_none();
        if is_settled && self.redriven_by_itself {
            return format!("reconcile redrives it in {}", format_duration(self.look_at.since(now)));
        }
        if is_settled && self.parked {
            return "a decision: it is parked".to_owned();
        }
        waits_for(&self.pending_steps, self.redrive_at, now)
    }
}

/// Formats records that failed in the same way, in lines for a terminal.
fn group_text(lines: &[&Line], now: Timestamp) -> String {
    let Some(first) = lines.first() else { return String::new() };
    let parked = if first.parked { ", parked" } else { "" };
    let records: Vec<String> = lines.iter().map(|line| line.text(now)).collect();
    format!(
        "{:>6}  {}, {}{parked}\n{INDENT}{}\n{INDENT}helps: {}\n{}",
        lines.len(),
        first.stage,
        first.kind,
        in_lines(&cause_of(&first.error_name, &first.reason)),
        helps(first.remedy, first.parked),
        records.join("\n")
    )
}

/// Formats what a failed record waits for: its pending steps, the redrive that somebody has asked for, or else a decision.
pub(crate) fn waits_for(
    pending_steps: &[FailureStep],
    redrive_at: Option<Timestamp>,
    now: Timestamp,
) -> String {
    match redrive_at {
        _ if !pending_steps.is_empty() => step_names(pending_steps),
        Some(due) => redrives::due(due, now),
        None => "a decision".to_owned(),
    }
}

/// Formats the pending steps of a failure.
pub(crate) fn step_names(pending_steps: &[FailureStep]) -> String {
    let names = pending_steps.iter().map(|step| match step {
        FailureStep::Item => "item",
        FailureStep::Unlink => "unlink",
        FailureStep::DeadLetter => "dead letter",
        FailureStep::Announcement => "announcement",
    });
    names.collect::<Vec<_>>().join(", ")
}

impl Undecided {
    fn text(&self, now: Timestamp) -> String {
        if self.records.is_empty() {
            return "No failed record waits for a decision.".to_owned();
        }
        let groups: Vec<String> = self.groups().iter().map(|lines| group_text(lines, now)).collect();
        let groups = groups.join("\n\n");
        let count = format_shown_count(
            self.records.len(),
            self.count,
            self.at_least,
            "failed record",
            "failed records",
        );
        let waiting = redrives::count_text(self.redrives_waiting).map(|text| format!("\n{text}"));
        format!("{groups}\n\n{count}{}\n{}", waiting.unwrap_or_default(), self.next_step(now))
    }

    /// Groups the records by what went wrong. The largest group comes first.
    fn groups(&self) -> Vec<Vec<&Line>> {
        let mut groups: BTreeMap<_, Vec<&Line>> = BTreeMap::new();
        for line in &self.records {
            let cause = cause_of(&line.error_name, &line.reason);
            groups.entry((&line.stage, line.kind.to_string(), line.parked, cause)).or_default().push(line);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|lines| std::cmp::Reverse(lines.len()));
        groups
    }

    /// What a person does next: nothing else than to look, if no record waits for a decision.
    fn next_step(&self, now: Timestamp) -> String {
        // A redrive does not end a conflict; `custody trace` says what does.
        let is_redriven = |line: &&Line| line.is_undecided(now) && line.remedy != Remedy::CompareThenDecide;
        let undecided = || self.records.iter().filter(is_redriven);
        let redrive = match (undecided().any(|line| !line.parked), undecided().any(|line| line.parked)) {
            (true, false) => "; when the cause is gone, `custody dlq redrive --all --now --wait`",
            (true, true) => {
                "; when the cause is gone, `custody dlq redrive --all --now --wait`, with `--force` also the parked ones"
            }
            (false, true) => "; when the cause is gone, `custody dlq redrive --all --now --wait --force`",
            (false, false) => "",
        };
        format!("Next: `custody trace ID` shows one{redrive}.")
    }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};
    use strum::VariantArray as _;

    use super::*;

    const POLICY: RedrivePolicy =
        RedrivePolicy { automatic: true, max_attempts: 3, patience: Duration::from_mins(75) };

    #[test]
    fn a_failed_record_reports_its_failure_and_its_pending_steps() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        let failure = contract::failure_of(&record.message);
        let now = failure.failed_at.after(Duration::from_hours(24 * 15));
        assert!(Line::of(&record, POLICY, now).is_none(), "it is in progress");
        record.state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
        let text = |record: &OpenRecord| Line::of(record, POLICY, now).unwrap().text(now);
        assert_eq!(text(&record), format!("  {}  15 d 0 h ago: a decision", record.id()));
        record.redrive_at = Some(now.after(Duration::from_mins(4)));
        assert!(text(&record).ends_with(": redrive in 4 min 0 s"));
        record.state = OpenState::Failed { failure, pending_steps: FailureStep::VARIANTS.to_vec() };
        assert!(text(&record).ends_with(": item, unlink, dead letter, announcement"));
    }

    #[test]
    fn the_list_says_what_helps_what_is_pending_and_what_comes_next() {
        let id = "019e1f4b-6c00-7abc-8def-0123456789ab".parse().unwrap();
        let mut record = samples::open_record(&samples::message_of(id, b"payload"));
        let failure = contract::failure_of(&record.message);
        let now = failure.failed_at.after(Duration::from_mins(3));
        record.redrive_at = Some(now.after(Duration::from_mins(4)));
        record.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        let mut line = Line::of(&record, POLICY, now).unwrap();
        line.reason = "store object 2026/11/21/22/21/019e1f4b-6c00-7abc-8def-0123456789ab: denied".to_owned();
        let mut same = Line::of(&record, POLICY, now).unwrap();
        same.reason = "store object 2026/11/21/22/21/019e1f4b-6c00-7abc-8def-0123456789ac: denied".to_owned();
        same.attempt = 2;
        let mut other = Line::of(&record, POLICY, now).unwrap();
        (other.stage, other.reason) = ("metadata".to_owned(), "denied, too".to_owned());
        let grouped =
            Undecided { records: vec![other, line, same], count: 7, at_least: false, redrives_waiting: None };
        insta::assert_snapshot!("groups", grouped.text(now));
        let records = vec![Line::of(&record, POLICY, now).unwrap()];
        let mut answer = Undecided { records, count: 7, at_least: false, redrives_waiting: Some(1) };
        insta::assert_snapshot!("failed", answer.text(now));
        assert!(answer.next_step(now).ends_with("shows one."), "a redrive is asked for already");
        let given_up = now.after(Duration::from_hours(2));
        assert!(answer.next_step(given_up).ends_with("--wait`."), "SQS has given up this redrive");
        answer.records[0].redrive_at = None;
        assert!(answer.next_step(now).ends_with("`custody dlq redrive --all --now --wait`."));
        answer.records[0].parked = true;
        assert!(answer.next_step(now).ends_with("`custody dlq redrive --all --now --wait --force`."));
        answer.records[0].remedy = Remedy::CompareThenDecide;
        assert!(answer.next_step(now).ends_with("shows one."), "a redrive does not end a conflict");
        answer.records.clear();
        assert_eq!(answer.text(now), "No failed record waits for a decision.");
    }

    #[test]
    fn a_failure_that_passes_by_itself_waits_for_reconcile_until_it_is_parked() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        let mut failure = contract::failure_of(&record.message);
        (failure.kind, failure.error_name) = (ErrorKind::Transient, "ArchiveUnavailable".to_owned());
        let now = failure.failed_at;
        record.look_at = now.after(Duration::from_mins(3));
        record.state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
        let line = |record: &OpenRecord, policy, now| Line::of(record, policy, now).unwrap();
        assert_eq!(line(&record, POLICY, now).waits_for(now), "reconcile redrives it in 3 min 0 s");
        let by_hand = RedrivePolicy { automatic: false, ..POLICY };
        assert_eq!(line(&record, by_hand, now).waits_for(now), "a decision");
        failure.attempt = 4;
        (failure.kind, failure.error_name) = (ErrorKind::Internal, "AccessDenied".to_owned());
        record.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        let parked = line(&record, POLICY, now);
        assert_eq!(parked.waits_for(now), "a decision: it is parked");
        assert!(group_text(&[&parked], now).contains("redrive with --force\n"));
    }
}
