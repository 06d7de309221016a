//! Discards: a person decides that a record stays failed, with who, when and why kept as evidence.

mod decision;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock},
    dead_letter::DeadLetter,
    open_record::OpenState,
    ports::{Discard, FailedStore, OpenRecords as _},
};
use serde::Serialize;
use serde_json::{Value, json};

use self::decision::{Decision, decide};
use super::Contents;
use crate::{
    Done,
    deployment::Deployment,
    output::Output,
    queue::{Held, Queue},
    selection::Selection,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Why, for whoever asks later.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    dry_run: bool,
    discarded: Vec<String>,
    /// Complete, discarded before, or at a later attempt: only the dead letter is gone.
    settled: Vec<String>,
    failed: Vec<String>,
}

/// A dead letter to discard, and where it is known from.
struct Candidate {
    /// What an operator calls it.
    id: String,
    /// The name of its evidence.
    name: String,
    letter: Option<DeadLetter>,
    content: Value,
    /// The message on the queue; `None` where the dead letter has expired.
    held: Option<Held>,
}

pub(crate) async fn run(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    options: Options,
    contents: Contents,
) -> anyhow::Result<Done> {
    let caller = aws_sdk_sts::Client::new(deployment.aws.config()).get_caller_identity().send().await;
    let caller = caller.context("ask AWS who is discarding (sts:GetCallerIdentity)")?;
    let discard = Discard {
        by: caller.arn().unwrap_or("unknown").to_owned(),
        at: SystemClock.now(),
        reason: options.reason,
    };
    let meant = super::selected(queue, &options.selection).await?;
    let mut is_missing = false;
    let mut expired = Vec::new();
    for id in options.selection.missing(&meant) {
        match contents {
            Contents::DeadLetters => {
                if let Some(candidate) = from_open_record(deployment, id).await? {
                    expired.push(candidate);
                } else {
                    eprintln!(
                        "{id} has neither a dead letter nor an undecided failure; `custody trace {id}` tells more"
                    );
                    is_missing = true;
                }
            }
            Contents::RejectedRequests => {
                eprintln!("there is no rejected request {id} on the queue");
                is_missing = true;
            }
        }
    }
    let mut summary = Summary { dry_run: options.dry_run, ..Summary::default() };
    for candidate in meant.into_iter().map(Candidate::held).chain(expired) {
        let id = candidate.id.clone();
        if options.dry_run {
            candidate.held.into_iter().for_each(|held| queue.leave(held));
            summary.discarded.push(id);
            continue;
        }
        match discard_one(deployment, queue, &candidate, &discard).await {
            Ok(Decision::Settled) => summary.settled.push(id),
            Ok(_) => summary.discarded.push(id),
            Err(error) => {
                eprintln!("could not discard {id}: {error:#}");
                candidate.held.into_iter().for_each(|held| queue.leave(held));
                summary.failed.push(id);
            }
        }
    }
    output.print(&summary, |summary| summary.print(contents))?;
    Ok(match (is_missing, summary.failed.is_empty()) {
        (true, _) => Done::NotFound,
        (false, false) => Done::Partly,
        (false, true) => Done::All,
    })
}

/// The dead letter that an undecided record would have, whose own has expired.
async fn from_open_record(deployment: &Deployment, id: &str) -> anyhow::Result<Option<Candidate>> {
    let Ok(record) = id.parse() else { return Ok(None) };
    let Some(open) = deployment.open_records()?.find(record).await? else { return Ok(None) };
    let OpenState::Failed { failure, .. } = open.state else { return Ok(None) };
    let letter = DeadLetter::of_record(&open.message, failure, Vec::new());
    Ok(Some(Candidate {
        id: id.to_owned(),
        name: open.message.attempt().to_string(),
        content: serde_json::to_value(&letter).context("write the dead letter")?,
        letter: Some(letter),
        held: None,
    }))
}

impl Candidate {
    fn held(held: Held) -> Self {
        Self {
            id: held.id(),
            name: held.message_id.clone(),
            letter: held.letter.clone(),
            content: held.content(),
            held: Some(held),
        }
    }
}

/// The evidence first, because a dead letter that is gone cannot be read any more; then the decision; the dead letter goes
/// last, so that whatever fails before can be done again.
async fn discard_one(
    deployment: &Deployment,
    queue: &Queue,
    candidate: &Candidate,
    discard: &Discard,
) -> anyhow::Result<Decision> {
    keep_evidence(&deployment.failed_store()?, candidate, discard).await?;
    let decision = match candidate.letter.as_ref().and_then(DeadLetter::attempt) {
        Some(attempt) => decide(&deployment.open_records()?, &deployment.table()?, attempt, discard).await?,
        None => Decision::NoRecord,
    };
    if let Some(held) = &candidate.held {
        queue.remove(held).await?;
    }
    Ok(decision)
}

async fn keep_evidence(
    store: &impl FailedStore,
    candidate: &Candidate,
    discard: &Discard,
) -> anyhow::Result<()> {
    // The time keeps two discards of one dead letter apart: a key stands for one content.
    let day = discard.at.format("%Y/%m/%d");
    let key = format!("discarded/{day}/{}-{}.json", candidate.name, discard.at.unix_ms());
    let evidence = json!({"discarded": discard, "letter": candidate.content});
    store.keep(&key, Bytes::from(evidence.to_string())).await?;
    Ok(())
}

impl Summary {
    fn print(&self, contents: Contents) {
        let verb = if self.dry_run { "would be discarded" } else { "discarded" };
        println!("{} {verb}, {} left", contents.counted(self.discarded.len(), false), self.failed.len());
        self.discarded.iter().take(20).for_each(|id| println!("  {id}"));
        if !self.settled.is_empty() {
            let count = contents.counted(self.settled.len(), false);
            println!(
                "{count} taken off the queue: their records are complete, discarded before, or at a later attempt"
            );
            self.settled.iter().take(20).for_each(|id| println!("  {id}"));
        }
    }
}
