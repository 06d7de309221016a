//! Redrives: failed records get their next attempt.

mod source;

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use clap::Args;
use custody_aws::{DynamoTable, LetterQueue};
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
    Done,
    deployment::Deployment,
    output::{Output, counted},
    queue::{Held, Queue},
    selection::Selection,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How many records to send on their way per second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    max_per_second: u32,
    /// Also records that are parked because they were redriven as often as allowed; with --id, also discarded ones.
    #[arg(long)]
    force: bool,
    /// At once, instead of after the growing, random delay that keeps records from failing together again.
    #[arg(long)]
    now: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    dry_run: bool,
    redriven: Vec<String>,
    /// Complete already: there is nothing to do but to discard their dead letters.
    complete: Vec<String>,
    /// Redriven as often as allowed; only `--force` moves them.
    parked: Vec<String>,
    /// Requests that never became records: their producers got no receipt and send again.
    requests: Vec<String>,
    /// No dead letters of Custody.
    foreign: Vec<String>,
    failed: Vec<String>,
}

/// How long a page of dead letters may take: well below the time for which what was read stays hidden.
const PAGE_SECONDS: u32 = 100;
const MAX_PAGE: u32 = 1000;

pub(super) async fn run(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    options: Options,
) -> anyhow::Result<Done> {
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
        let page = queue.next((options.max_per_second * PAGE_SECONDS).min(MAX_PAGE) as usize).await?;
        if page.is_empty() {
            break;
        }
        let complete = completed(&table, &page, &options.selection).await?;
        for held in page {
            bar.inc(1);
            bar.set_message(summary.redriven.len().to_string());
            if !options.selection.selects(&held) {
                queue.leave(held);
                continue;
            }
            // A record that fails again at once comes back while this still reads: once is enough.
            if !ids.insert(held.id()) {
                queue.leave(held);
                continue;
            }
            seen.push(held.clone());
            match sort(&held, &mut summary, &complete, options.force) {
                Some((letter, attempt)) if !options.dry_run => {
                    interval.tick().await;
                    let delay = if options.now { Duration::ZERO } else { backoff::delay_after(attempt) };
                    match hand_over(&redrives, queue, &held, letter, delay, options.force).await {
                        Ok(()) => summary.redriven.push(held.id()),
                        Err(error) => {
                            bar.suspend(|| eprintln!("left {} on the queue: {error:#}", held.id()));
                            summary.failed.push(held.id());
                            queue.leave(held);
                        }
                    }
                }
                Some(_) => {
                    summary.redriven.push(held.id());
                    queue.leave(held);
                }
                None => queue.leave(held),
            }
        }
        if options.selection.is_exhausted_by(&seen) {
            break;
        }
    }
    bar.finish_and_clear();
    let mut missing = false;
    for id in options.selection.missing(&seen) {
        missing |= !without_dead_letter(deployment, &redrives, id, &options, &mut summary).await?;
    }
    output.print(&summary, Summary::print)?;
    Ok(match (missing, summary.leaves_some()) {
        (true, _) => Done::NotFound,
        (false, true) => Done::Partly,
        (false, false) => Done::All,
    })
}

/// Redrives a record whose dead letter is gone: after 14 days the queue forgets it, and the open record does not. Whether
/// there is such a record.
async fn without_dead_letter(
    deployment: &Deployment,
    redrives: &LetterQueue,
    id: &str,
    options: &Options,
    summary: &mut Summary,
) -> anyhow::Result<bool> {
    let found = match id.parse() {
        Ok(id) => source::dead_letter_of(deployment, id, options.force).await?,
        Err(_) => Err("it is no messageID".to_owned()),
    };
    let letter = match found {
        Ok(letter) => letter,
        Err(why) => {
            eprintln!(
                "there is no dead letter of {id} on the queue, and it cannot be redriven without: {why}"
            );
            return Ok(false);
        }
    };
    if !options.dry_run {
        redrives.deliver(&letter, Duration::ZERO, options.force).await?;
    }
    summary.redriven.push(id.to_owned());
    Ok(true)
}

/// Which of the records that are meant are complete.
async fn completed(
    table: &DynamoTable,
    page: &[Held],
    selection: &Selection,
) -> anyhow::Result<BTreeSet<RecordId>> {
    let meant = page.iter().filter(|held| selection.selects(held));
    let records: BTreeSet<RecordId> = meant.filter_map(|held| held.letter.as_ref()?.message_id).collect();
    let records: Vec<_> = records.into_iter().collect();
    let mut complete = BTreeSet::new();
    for records in records.chunks(100) {
        let states = table.states(records).await?;
        let completed = states.into_iter().filter(|(_, state)| matches!(state, ItemState::Completed(_)));
        complete.extend(completed.map(|(id, _)| id));
    }
    Ok(complete)
}

/// The dead letter to redrive; what cannot be redriven is noted.
fn sort<'a>(
    held: &'a Held,
    summary: &mut Summary,
    complete: &BTreeSet<RecordId>,
    force: bool,
) -> Option<(&'a DeadLetter, Attempt)> {
    let Some(letter) = &held.letter else {
        summary.foreign.push(held.id());
        return None;
    };
    let Some(attempt) = letter.attempt() else {
        summary.requests.push(held.id());
        return None;
    };
    if complete.contains(&attempt.record) {
        summary.complete.push(held.id());
        return None;
    }
    if letter.parked && !force {
        summary.parked.push(held.id());
        return None;
    }
    Some((letter, attempt))
}

/// First there, then gone from here: dying in between leaves two dead letters, and an attempt is begun once.
async fn hand_over(
    redrives: &LetterQueue,
    queue: &Queue,
    held: &Held,
    letter: &DeadLetter,
    delay: Duration,
    force: bool,
) -> anyhow::Result<()> {
    ensure!(letter.schema_version == custody_core::SCHEMA_VERSION, "it is of a later version than this tool");
    redrives.deliver(letter, delay, force).await?;
    queue.remove(held).await
}

impl Summary {
    fn leaves_some(&self) -> bool {
        [&self.complete, &self.parked, &self.requests, &self.foreign, &self.failed]
            .iter()
            .any(|list| !list.is_empty())
    }

    fn print(&self) {
        let verb = if self.dry_run { "would be redriven" } else { "on the redrive queue" };
        println!("{} {verb}", counted(self.redriven.len(), false, "record", "records"));
        if self.dry_run {
            self.redriven.iter().for_each(|id| println!("  {id}"));
        }
        for (list, what) in [
            (
                &self.complete,
                "COMPLETED already: nothing to do; `custody dlq discard` takes their dead letters off the queue",
            ),
            (&self.parked, "parked: redriven as often as allowed; `--force` gives them one more attempt"),
            (
                &self.requests,
                "requests that never became records; their producers got no receipt and send again",
            ),
            (&self.foreign, "messages that are not Custody's; look at them with `custody dlq show`"),
            (&self.failed, "could not be redriven and are still on the queue"),
        ] {
            if !list.is_empty() {
                println!("{} left: {what}", list.len());
                list.iter().take(10).for_each(|id| println!("  {id}"));
            }
        }
    }
}
