//! `custody dlq redrive`: moves dead letters to the redrive queue, so that failed records get their next attempt.

mod source;

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use clap::Args;
use custody_aws::{DynamoTable, SqsDeadLetters};
use custody_core::{
    attempt::Attempt,
    backoff,
    dead_letter::DeadLetter,
    ports::{ItemState, RecordTable as _},
    record_id::RecordId,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{Output, format_count},
    queue::{Queue, ReceivedMessage},
    selection::Selection,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Only report what would be redriven.
    #[arg(long)]
    dry_run: bool,
    /// Maximum number of records to redrive per second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    max_per_second: u32,
    /// Also redrive parked records, which have used up their redrives; with --id, also redrive discarded records.
    #[arg(long)]
    force: bool,
    /// Redrive at once, without the growing, random delay that keeps records from failing together again.
    #[arg(long)]
    now: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    dry_run: bool,
    redriven: Vec<String>,
    /// Records that are complete already: their dead letters can only be discarded.
    complete: Vec<String>,
    /// Parked records, which have used up their redrives: only `--force` redrives them.
    parked: Vec<String>,
    /// Requests that never became records: their producers got no receipt and send the request again.
    requests: Vec<String>,
    /// Messages that are not dead letters of Custody.
    foreign: Vec<String>,
    failed: Vec<String>,
}

/// Time in which one page of dead letters is redriven: well below the visibility timeout of a received message.
const PAGE_SECONDS: u32 = 100;
const MAX_PAGE: u32 = 1000;

pub(super) async fn run(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let redrives = deployment.redrive_queue()?;
    let mut summary = Summary { dry_run: options.dry_run, ..Summary::default() };
    let mut seen = Vec::new();
    let mut ids = BTreeSet::new();
    let table = deployment.table()?;
    let bar = ProgressBar::new(queue.count().await?);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} dead letters read, {msg} records redriven")
    {
        bar.set_style(style);
    }
    let mut interval = tokio::time::interval(Duration::from_secs(1) / options.max_per_second);
    loop {
        let page = queue.receive_new((options.max_per_second * PAGE_SECONDS).min(MAX_PAGE) as usize).await?;
        if page.is_empty() {
            break;
        }
        let complete = completed(&table, &page, &options.selection).await?;
        for held in page {
            bar.inc(1);
            bar.set_message(summary.redriven.len().to_string());
            if !options.selection.selects(&held) {
                queue.keep_on_queue(held);
                continue;
            }
            // A redriven record that fails again at once has a new dead letter while this command still reads the
            // queue. Each record is redriven once per command.
            if !ids.insert(held.id()) {
                queue.keep_on_queue(held);
                continue;
            }
            seen.push(held.clone());
            match redrivable(&held, &mut summary, &complete, options.force) {
                Some((dead_letter, attempt)) if !options.dry_run => {
                    interval.tick().await;
                    let delay = if options.now { Duration::ZERO } else { backoff::delay_after(attempt) };
                    match move_to_redrive_queue(&redrives, queue, &held, dead_letter, delay, options.force)
                        .await
                    {
                        Ok(()) => summary.redriven.push(held.id()),
                        Err(error) => {
                            bar.suspend(|| eprintln!("could not redrive {}: {error:#}", held.id()));
                            summary.failed.push(held.id());
                            queue.keep_on_queue(held);
                        }
                    }
                }
                Some(_) => {
                    summary.redriven.push(held.id());
                    queue.keep_on_queue(held);
                }
                None => queue.keep_on_queue(held),
            }
        }
        if options.selection.all_ids_found_in(&seen) {
            break;
        }
    }
    bar.finish_and_clear();
    let mut missing = false;
    for id in options.selection.missing(&seen) {
        missing |= !redrive_without_dead_letter(deployment, &redrives, id, &options, &mut summary).await?;
    }
    output.print(&summary, Summary::print)?;
    Ok(match (missing, summary.leaves_dead_letters()) {
        (true, _) => CommandOutcome::NotFound,
        (false, true) => CommandOutcome::Partial,
        (false, false) => CommandOutcome::Complete,
    })
}

/// Redrives a record that has no dead letter on the queue: SQS deletes a dead letter after 14 days, but the open record
/// stays. Returns whether the record can be redriven.
async fn redrive_without_dead_letter(
    deployment: &Deployment,
    redrives: &SqsDeadLetters,
    id: &str,
    options: &Options,
    summary: &mut Summary,
) -> anyhow::Result<bool> {
    let found = match id.parse() {
        Ok(id) => source::dead_letter_of(deployment, id, options.force).await?,
        Err(_) => Err("the id is not a messageID".to_owned()),
    };
    let dead_letter = match found {
        Ok(dead_letter) => dead_letter,
        Err(why) => {
            eprintln!(
                "there is no dead letter of {id} on the queue, and it cannot be redriven without one: {why}"
            );
            return Ok(false);
        }
    };
    if !options.dry_run {
        redrives.deliver(&dead_letter, Duration::ZERO, options.force).await?;
    }
    summary.redriven.push(id.to_owned());
    Ok(true)
}

/// Returns the selected records of a page that are complete.
async fn completed(
    table: &DynamoTable,
    page: &[ReceivedMessage],
    selection: &Selection,
) -> anyhow::Result<BTreeSet<RecordId>> {
    let meant = page.iter().filter(|held| selection.selects(held));
    let records: BTreeSet<RecordId> =
        meant.filter_map(|held| held.dead_letter.as_ref()?.message_id).collect();
    let records: Vec<_> = records.into_iter().collect();
    let mut complete = BTreeSet::new();
    for records in records.chunks(100) {
        let states = table.states(records).await?;
        let completed = states.into_iter().filter(|(_, state)| matches!(state, ItemState::Completed(_)));
        complete.extend(completed.map(|(id, _)| id));
    }
    Ok(complete)
}

/// Returns the dead letter and its attempt if the record can be redriven. Otherwise adds its id to the list of
/// `summary` that names the reason.
fn redrivable<'a>(
    held: &'a ReceivedMessage,
    summary: &mut Summary,
    complete: &BTreeSet<RecordId>,
    force: bool,
) -> Option<(&'a DeadLetter, Attempt)> {
    let Some(dead_letter) = &held.dead_letter else {
        summary.foreign.push(held.id());
        return None;
    };
    let Some(attempt) = dead_letter.attempt() else {
        summary.requests.push(held.id());
        return None;
    };
    if complete.contains(&attempt.record) {
        summary.complete.push(held.id());
        return None;
    }
    if dead_letter.parked && !force {
        summary.parked.push(held.id());
        return None;
    }
    Some((dead_letter, attempt))
}

/// Moves a dead letter to the redrive queue. It is sent there before it is deleted here: a crash in between leaves two
/// copies of the dead letter, and the redrive function begins an attempt only once.
async fn move_to_redrive_queue(
    redrives: &SqsDeadLetters,
    queue: &Queue,
    held: &ReceivedMessage,
    dead_letter: &DeadLetter,
    delay: Duration,
    force: bool,
) -> anyhow::Result<()> {
    ensure!(
        dead_letter.schema_version == custody_core::SCHEMA_VERSION,
        "this tool is of another schema version"
    );
    redrives.deliver(dead_letter, delay, force).await?;
    queue.remove(held).await
}

impl Summary {
    fn leaves_dead_letters(&self) -> bool {
        [&self.complete, &self.parked, &self.requests, &self.foreign, &self.failed]
            .iter()
            .any(|list| !list.is_empty())
    }

    fn print(&self) {
        let verb = if self.dry_run { "would be redriven" } else { "sent to the redrive queue" };
        println!("{} {verb}", format_count(self.redriven.len(), false, "record", "records"));
        if self.dry_run {
            self.redriven.iter().for_each(|id| println!("  {id}"));
        }
        for (list, what) in [
            (
                &self.complete,
                "COMPLETED already: nothing to redrive; `custody dlq discard` deletes their dead letters",
            ),
            (&self.parked, "parked: their redrives are used up; `--force` gives them one more attempt"),
            (
                &self.requests,
                "requests that never became records; their producers got no receipt and send the request again",
            ),
            (&self.foreign, "not dead letters of Custody; `custody dlq show` shows them"),
            (&self.failed, "their redrives failed, see the errors above"),
        ] {
            if !list.is_empty() {
                println!("{} left on the queue: {what}", list.len());
                list.iter().take(10).for_each(|id| println!("  {id}"));
            }
        }
    }
}
