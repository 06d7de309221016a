//! `custody dlq discard` and `custody rejected discard`: a person decides that a failed record gets no further attempt,
//! or deletes a message from a queue. Who, when and why is stored as evidence.

mod decision;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock},
    dead_letter::DeadLetter,
    open_record::OpenState,
    ports::{Discard, FailedStore as _, OpenRecords as _},
    record_id::{InvalidRecordId, RecordId},
    stored_names::{decision_key, evidence_key},
};
use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::decision::DiscardResult;
use self::decision::{Decision, decide};
use super::Contents;
use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::Output,
    queue::{Queue, ReceivedMessage},
    selection::Selection,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Reason, which is stored as evidence.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Only report what would be discarded.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    dry_run: bool,
    discarded: Vec<String>,
    /// Records that are complete, discarded before, or at a later attempt: only their dead letters were deleted.
    settled: Vec<String>,
    failed: Vec<String>,
    /// How many of the discarded ones are records, which reconcile closes.
    #[serde(skip)]
    records: usize,
}

/// A dead letter to discard: a message on the queue, or one that was rebuilt from an open record.
struct Candidate {
    /// Id that operators use.
    id: String,
    /// Name in the evidence's key: SQS's id of the message, or the name of the attempt.
    name: String,
    dead_letter: Option<DeadLetter>,
    content: Value,
    /// The message on the queue; `None` where the dead letter has expired.
    held: Option<ReceivedMessage>,
}

pub(crate) async fn run(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    options: Options,
    contents: Contents,
) -> anyhow::Result<CommandOutcome> {
    let caller = aws_sdk_sts::Client::new(deployment.aws.config()).get_caller_identity().send().await;
    let caller = caller.context("ask AWS who is discarding (sts:GetCallerIdentity)")?;
    let discard = Discard {
        by: caller.arn().unwrap_or("unknown").to_owned(),
        at: SystemClock.now(),
        reason: options.reason,
    };
    let meant = super::receive_selected(queue, &options.selection).await?;
    let (expired, is_missing) =
        without_message(deployment, output, options.selection.missing(&meant), contents).await?;
    let mut summary = Summary { dry_run: options.dry_run, ..Summary::default() };
    for candidate in meant.into_iter().map(Candidate::held).chain(expired) {
        let id = candidate.id.clone();
        if options.dry_run {
            summary.discarded.push(id);
            continue;
        }
        queue.handled += 1;
        match discard_one(deployment, queue, &candidate, &discard).await {
            Ok(decision) => {
                if let Some(earlier) = &decision.earlier {
                    eprintln!("note: {}", decided_before(&id, earlier));
                }
                summary.count(id, &decision);
            }
            Err(error) => {
                output.complain(&format!("could not discard {id}: {error:#}"));
                summary.failed.push(id);
            }
        }
    }
    let is_idle = summary.discarded.is_empty() && summary.settled.is_empty();
    let has_found_nothing = queue.has_read_nothing() && is_idle;
    let hidden = if has_found_nothing { queue.hidden().await? } else { 0 };
    if hidden > 0 {
        output.complain(&super::list::hidden_text(hidden, contents));
    }
    output.print(&summary, |summary| print!("{}", summary.text(contents)))?;
    Ok(match (is_missing, summary.failed.is_empty() && hidden == 0) {
        (true, _) => CommandOutcome::NotFound,
        (false, false) => CommandOutcome::Partial,
        (false, true) => CommandOutcome::Complete,
    })
}

/// Returns what can be discarded of the ids that have no message on the queue, and whether there are others.
async fn without_message(
    deployment: &Deployment,
    output: Output,
    ids: Vec<&str>,
    contents: Contents,
) -> anyhow::Result<(Vec<Candidate>, bool)> {
    let (mut expired, mut is_missing) = (Vec::new(), false);
    for id in ids {
        let candidate = match contents {
            Contents::DeadLetters => from_open_record(deployment, id).await?,
            Contents::RejectedRequests => None,
        };
        is_missing |= candidate.is_none();
        match (candidate, contents) {
            (Some(candidate), _) => expired.push(candidate),
            (None, Contents::DeadLetters) => {
                let why = match id.parse::<RecordId>() {
                    Err(error @ InvalidRecordId::Length(_)) => error.to_string(),
                    _ => format!("`custody trace {id}` shows its state, if it is a record"),
                };
                output.complain(&format!("{id} has neither a dead letter nor an undecided failure; {why}"));
            }
            (None, Contents::RejectedRequests) => {
                output.complain(&format!("there is no rejected request {id} on the queue"));
            }
        }
    }
    Ok((expired, is_missing))
}

/// Rebuilds the expired dead letter of a failed record from its open record; `None` if there is no failed open record.
async fn from_open_record(deployment: &Deployment, id: &str) -> anyhow::Result<Option<Candidate>> {
    let Ok(record) = id.parse() else { return Ok(None) };
    let Some(open) = deployment.open_records()?.find(record).await? else { return Ok(None) };
    let OpenState::Failed { failure, .. } = open.state else { return Ok(None) };
    let dead_letter = DeadLetter::of_record(&open.message, failure, Vec::new());
    Ok(Some(Candidate {
        id: id.to_owned(),
        name: open.message.attempt().to_string(),
        content: serde_json::to_value(&dead_letter).context("write the dead letter")?,
        dead_letter: Some(dead_letter),
        held: None,
    }))
}

impl Candidate {
    fn held(held: ReceivedMessage) -> Self {
        Self {
            id: held.id(),
            name: held.message_id.clone(),
            dead_letter: held.dead_letter.clone(),
            content: held.content(),
            held: Some(held),
        }
    }
}

/// Says that somebody has discarded a record before.
fn decided_before(id: &str, Discard { by, at, reason }: &Discard) -> String {
    format!("{id} was discarded before, by {by} at {at}, with the reason \"{reason}\", which stays")
}

/// Discards one dead letter in four steps. First the evidence is stored, because a deleted dead letter cannot be read
/// any more. Then the decision is made, and stored beside the evidence: `custody rebuild` believes no evidence without
/// one. The dead letter is deleted last, so that the command can be repeated if a step before fails.
async fn discard_one(
    deployment: &Deployment,
    queue: &Queue,
    candidate: &Candidate,
    discard: &Discard,
) -> anyhow::Result<Decision> {
    let store = deployment.failed_store()?;
    let evidence = evidence_key(&candidate.name, discard.at);
    let content = json!({"discarded": discard, "deadLetter": candidate.content});
    store.preserve(&evidence, Bytes::from(content.to_string())).await?;
    let decision = match candidate.dead_letter.as_ref().and_then(DeadLetter::attempt) {
        Some(attempt) => decide(&deployment.open_records()?, &deployment.table()?, attempt, discard).await?,
        None => DiscardResult::NoRecord.into(),
    };
    let decided = json!({"decision": <&str>::from(decision.result)});
    store.preserve(&decision_key(&evidence), Bytes::from(decided.to_string())).await?;
    if let Some(held) = &candidate.held {
        queue.remove(held).await?;
    }
    Ok(decision)
}

impl Summary {
    fn count(&mut self, id: String, decision: &Decision) {
        match decision.result {
            DiscardResult::Discarded if decision.earlier.is_none() => {
                self.records += 1;
                self.discarded.push(id);
            }
            DiscardResult::NoRecord => self.discarded.push(id),
            DiscardResult::Discarded | DiscardResult::NothingToDecide => self.settled.push(id),
        }
    }

    /// The lines that a person reads.
    fn text(&self, contents: Contents) -> String {
        let verb = if self.dry_run { "would be discarded" } else { "discarded" };
        let failed =
            if self.failed.is_empty() { String::new() } else { format!(", {} failed", self.failed.len()) };
        let mut lines =
            vec![format!("{} {verb}{failed}", contents.format_count(self.discarded.len(), false))];
        lines.extend(self.discarded.iter().take(20).map(|id| format!("  {id}")));
        if !self.settled.is_empty() {
            let count = contents.format_count(self.settled.len(), false);
            lines.push(format!(
                "nothing to decide about {count}: complete, discarded before, or at a later attempt. What was on the queue is deleted"
            ));
            lines.extend(self.settled.iter().take(20).map(|id| format!("  {id}")));
        }
        if self.records > 0 {
            lines.push(
                "Reconcile announces and closes discarded records within a minute; `custody trace ID` shows one.".to_owned(),
            );
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discard_says_what_it_did_and_what_comes_next() {
        let decision = |result, earlier: Option<&str>| Decision {
            result,
            earlier: earlier.map(|reason| Discard {
                by: "arn:x".to_owned(),
                at: SystemClock.now(),
                reason: reason.to_owned(),
            }),
        };
        let mut summary = Summary::default();
        summary.count("a".to_owned(), &decision(DiscardResult::Discarded, None));
        insta::assert_snapshot!("dead_letters", summary.text(Contents::DeadLetters));
        summary.count("b".to_owned(), &decision(DiscardResult::NothingToDecide, None));
        summary.count("e".to_owned(), &decision(DiscardResult::Discarded, Some("withdrawn")));
        summary.failed = vec!["c".to_owned(), "d".to_owned()];
        insta::assert_snapshot!("in_part", summary.text(Contents::DeadLetters));
        let mut summary = Summary::default();
        summary.count("f".to_owned(), &decision(DiscardResult::NoRecord, None));
        let text = summary.text(Contents::DeadLetters);
        assert!(!text.contains("Reconcile"), "there is no record to close: {text}");
        insta::assert_snapshot!("rejected_requests", summary.text(Contents::RejectedRequests));
        let earlier = decision(DiscardResult::Discarded, Some("withdrawn")).earlier.unwrap();
        assert!(
            decided_before("e", &earlier).contains("by arn:x at")
                && decided_before("e", &earlier).contains("\"withdrawn\"")
        );
    }
}
