//! `custody dlq redrive`: moves dead letters to the redrive queue, so that failed records get their next attempt.

mod source;
mod wait;

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use clap::Args;
use custody_aws::{DynamoOpenRecords, DynamoTable, SqsDeadLetters};
use custody_core::{
    attempt::Attempt,
    backoff,
    clock::{Clock as _, SystemClock},
    dead_letter::DeadLetter,
    ports::{ItemState, OpenRecords as _, RecordTable as _},
    record_id::RecordId,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::Interval;

use super::{Contents, list::hidden_text};
use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{Output, format_count},
    queue::{Queue, ReceivedMessage},
    selection::Selection,
};

#[derive(Args, Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "options of a command line, each independent of the others"
)]
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
    /// Wait until each redriven record is complete or has failed again.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    dry_run: bool,
    /// Whether the attempts begin at once.
    #[serde(skip)]
    now: bool,
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
    /// With `--wait`: what became of the redriven records.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<wait::Ends>,
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
    let bar = ProgressBar::new(queue.count().await?);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {pos}/{len} dead letters read, {msg} records redriven")
    {
        bar.set_style(style);
    }
    let mut command = Command {
        output,
        redrives: deployment.redrive_queue()?,
        table: deployment.table()?,
        open: deployment.open_records()?,
        summary: Summary { dry_run: options.dry_run, now: options.now, ..Summary::default() },
        seen: Vec::new(),
        ids: BTreeSet::new(),
        attempts: Vec::new(),
        note_refusal: None,
        interval: tokio::time::interval(Duration::from_secs(1) / options.max_per_second),
        bar,
        options,
    };
    command.redrive_queue(queue).await?;
    let is_missing = command.redrive_without_dead_letters(deployment).await?;
    if let Some(refusal) = &command.note_refusal {
        eprintln!(
            "warning: the redrives are sent, but `custody failed` does not show when they are due: {refusal}"
        );
    }
    // What this command has read itself is hidden, too, so the count says something only if it has read nothing.
    let hidden = if queue.has_read_nothing() { queue.hidden().await? } else { 0 };
    if hidden > 0 {
        output.complain(&hidden_text(hidden, Contents::DeadLetters));
    }
    if command.options.wait {
        // The wait may take longer than messages may be hidden from other readers.
        queue.release().await;
        command.summary.ends = Some(wait::until_the_end(&command.table, &command.attempts).await);
    }
    output.print(&command.summary, |summary| print!("{}", summary.text()))?;
    let is_partial = hidden > 0 || command.summary.leaves_dead_letters() || command.summary.has_bad_ends();
    Ok(match (is_missing, is_partial) {
        (true, _) => CommandOutcome::NotFound,
        (false, true) => CommandOutcome::Partial,
        (false, false) => CommandOutcome::Complete,
    })
}

/// The state of one run of the command.
struct Command {
    redrives: SqsDeadLetters,
    table: DynamoTable,
    open: DynamoOpenRecords,
    options: Options,
    summary: Summary,
    /// The selected dead letters that were read.
    seen: Vec<ReceivedMessage>,
    /// The ids of the records that were handled. A redriven record that fails again at once has a new dead letter while this
    /// command still reads the queue. Each record is redriven once per command.
    ids: BTreeSet<String>,
    /// The attempts that were redriven.
    attempts: Vec<Attempt>,
    /// Why a redrive could not be noted.
    note_refusal: Option<String>,
    interval: Interval,
    bar: ProgressBar,
    output: Output,
}

impl Command {
    /// Redrives the selected dead letters of the queue, page by page.
    async fn redrive_queue(&mut self, queue: &mut Queue) -> anyhow::Result<()> {
        let page_size = (self.options.max_per_second * PAGE_SECONDS).min(MAX_PAGE) as usize;
        loop {
            let page = queue.receive_new(page_size).await?;
            if page.is_empty() {
                break;
            }
            let complete = completed(&self.table, &page, &self.options.selection).await?;
            for held in page {
                self.bar.inc(1);
                self.bar.set_message(self.summary.redriven.len().to_string());
                self.redrive(queue, &held, &complete).await;
            }
            if self.options.selection.all_ids_found_in(&self.seen) {
                break;
            }
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    /// Redrives one dead letter, if it is selected and its record can be redriven.
    async fn redrive(&mut self, queue: &Queue, held: &ReceivedMessage, complete: &BTreeSet<RecordId>) {
        if !self.options.selection.selects(held) || !self.ids.insert(held.id()) {
            return;
        }
        self.seen.push(held.clone());
        let Some((dead_letter, attempt)) = redrivable(held, &mut self.summary, complete, self.options.force)
        else {
            return;
        };
        if self.options.dry_run {
            self.summary.redriven.push(held.id());
            return;
        }
        self.interval.tick().await;
        let delay = self.delay_after(attempt);
        let moved =
            move_to_redrive_queue(&self.redrives, queue, held, dead_letter, delay, self.options.force);
        match moved.await {
            Ok(()) => {
                self.note(attempt, delay).await;
                self.summary.redriven.push(held.id());
                self.attempts.push(attempt);
            }
            Err(error) => {
                let reason = format!("could not redrive {}: {error:#}", held.id());
                self.bar.suspend(|| self.output.complain(&reason));
                self.summary.failed.push(held.id());
            }
        }
    }

    /// Notes in the open record when a redrive is due that was sent: a note before would claim a redrive that a crash prevents.
    async fn note(&mut self, attempt: Attempt, delay: Duration) {
        let due = SystemClock.now().after(delay);
        if let Err(error) = self.open.note_redrive(attempt, Some(due)).await {
            self.note_refusal = Some(error.to_string());
        }
    }

    /// Returns the time before the next attempt after `attempt`.
    fn delay_after(&self, attempt: Attempt) -> Duration {
        if self.options.now { Duration::ZERO } else { backoff::delay_after(attempt) }
    }

    /// Redrives the records that were selected by id and have no dead letter on the queue: SQS deletes a dead letter after 14
    /// days, but the open record stays. Returns whether some of them cannot be redriven.
    async fn redrive_without_dead_letters(&mut self, deployment: &Deployment) -> anyhow::Result<bool> {
        let mut is_missing = false;
        let ids: Vec<String> =
            self.options.selection.missing(&self.seen).into_iter().map(str::to_owned).collect();
        for id in ids {
            let found = match id.parse() {
                Ok(id) => {
                    source::dead_letter_of(deployment, id, self.options.force, self.options.now).await?
                }
                Err(_) => Err("the id is not a messageID".to_owned()),
            };
            match found {
                Ok(dead_letter) => {
                    if !self.options.dry_run {
                        let delay =
                            dead_letter.attempt().map_or(Duration::ZERO, |attempt| self.delay_after(attempt));
                        self.redrives.deliver(&dead_letter, delay, self.options.force).await?;
                        if let Some(attempt) = dead_letter.attempt() {
                            self.note(attempt, delay).await;
                            self.attempts.push(attempt);
                        }
                    }
                    self.summary.redriven.push(id);
                }
                Err(why) => {
                    is_missing = true;
                    self.output.complain(&format!(
                        "there is no dead letter of {id} on the queue, and it cannot be redriven without one: {why}"
                    ));
                }
            }
        }
        Ok(is_missing)
    }
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
    fn has_bad_ends(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| !ends.are_good())
    }

    fn leaves_dead_letters(&self) -> bool {
        [&self.complete, &self.parked, &self.requests, &self.foreign, &self.failed]
            .iter()
            .any(|list| !list.is_empty())
    }

    /// The lines that a person reads.
    fn text(&self) -> String {
        let verb = if self.dry_run { "would be redriven" } else { "sent to the redrive queue" };
        let mut lines =
            vec![format!("{} {verb}", format_count(self.redriven.len(), false, "record", "records"))];
        if self.dry_run {
            lines.extend(self.redriven.iter().map(|id| format!("  {id}")));
        } else if let Some(ends) = &self.ends {
            lines.push(format!("{} complete", ends.completed));
            for (list, what) in [
                (&ends.failed_again, "failed again"),
                (&ends.discarded, "discarded meanwhile"),
                (&ends.still_waiting, "not at their end after 25 minutes"),
            ] {
                if !list.is_empty() {
                    lines.push(format!("{} {what}:", list.len()));
                    lines.extend(list.iter().take(10).map(|id| format!("  custody trace {id}")));
                }
            }
        } else if !self.redriven.is_empty() {
            let when = if self.now { "at once" } else { "within 15 minutes (`custody failed` shows when)" };
            lines.push(format!(
                "Their attempts begin {when}. `custody open` shows what is in progress, `custody failed` what is left."
            ));
        }
        for (list, why) in [
            (
                &self.complete,
                "COMPLETED already, nothing to redrive; `custody dlq discard` deletes the dead letter",
            ),
            (&self.parked, "parked, no redrive is left; `--force` gives one more attempt"),
            (&self.requests, "never a record, so its producer got no receipt and sends the request again"),
            (&self.foreign, "not a dead letter of Custody; `custody dlq show` shows it"),
            (&self.failed, "could not be redriven, see the errors above"),
        ] {
            if !list.is_empty() {
                lines.push(format!("left on the queue: {} ({why})", list.len()));
                lines.extend(list.iter().take(10).map(|id| format!("  {id}")));
            }
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_says_what_it_did_what_it_left_and_what_comes_next() {
        let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut summary = Summary { redriven: ids(&["a", "b"]), ..Summary::default() };
        insta::assert_snapshot!("sent", summary.text());
        let ends = wait::Ends { completed: 1, failed_again: ids(&["b"]), ..wait::Ends::default() };
        summary.ends = Some(ends);
        insta::assert_snapshot!("followed", summary.text());
        summary = Summary { redriven: ids(&["a"]), now: true, ..Summary::default() };
        insta::assert_snapshot!("at_once", summary.text());
        let summary = Summary {
            dry_run: true,
            now: false,
            redriven: ids(&["a"]),
            complete: ids(&["c"]),
            parked: ids(&["d"]),
            requests: ids(&["e"]),
            foreign: ids(&["f"]),
            failed: ids(&["g"]),
            ends: None,
        };
        insta::assert_snapshot!("left", summary.text());
    }
}
