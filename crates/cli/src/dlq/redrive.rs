//! `custody dlq redrive`: moves dead letters to the redrive queue, so that failed records get their next attempt.

mod source;
mod stale;
mod summary;
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::ensure;
use clap::Args;
use custody_aws::{DynamoOpenRecords, DynamoTable, SqsDeadLetters};
use custody_core::{
    attempt::Attempt,
    backoff,
    clock::{Clock as _, SystemClock, Timestamp},
    dead_letter::DeadLetter,
    ports::OpenRecords as _,
    record_id::RecordId,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Interval;

use self::{source::Unread, stale::Stale, summary::Summary};
use super::{Contents, list::hidden_text};
use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::Output,
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
        summary: Summary { dry_run: options.dry_run, ..Summary::default() },
        seen: Vec::new(),
        ids: BTreeSet::new(),
        attempts: Vec::new(),
        note_refusal: None,
        interval: tokio::time::interval(Duration::from_secs(1) / options.max_per_second),
        bar,
        options,
    };
    let began = SystemClock.now();
    command.redrive_queue(queue).await?;
    let is_missing = command.redrive_ids_without_dead_letters(queue, deployment).await?;
    let unread = command.redrive_unread(queue, deployment, began).await;
    if let Err(error) = &unread {
        output.complain(&format!(
            "which failed records have no dead letter on the queue is not known: {error:#}"
        ));
    }
    if let Some(refusal) = &command.note_refusal {
        eprintln!(
            "warning: the redrives are sent, but `custody failed` does not show when they are due: {refusal}"
        );
    }
    // What this command has read itself is hidden, too, so the count says something only if it has read nothing.
    let has_found_nothing = queue.has_read_nothing() && command.summary.redriven.is_empty();
    let hidden = if has_found_nothing { queue.hidden().await? } else { 0 };
    if hidden > 0 {
        output.complain(&hidden_text(hidden, Contents::DeadLetters));
    }
    if command.options.wait {
        // The wait may take longer than messages may be hidden from other readers.
        queue.release().await;
        // Only a redrive by force reverses a discard that was made before.
        let since = if command.options.force { began } else { Timestamp::from_unix_ms(0).unwrap_or(began) };
        command.summary.ends = Some(wait::until_the_end(&command.table, &command.attempts, since).await);
    }
    output.print(&command.summary, |summary| print!("{}", summary.text()))?;
    let is_partial =
        hidden > 0 || unread.is_err() || command.summary.leaves_something() || command.summary.has_bad_ends();
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
            let selected = page.iter().filter(|held| self.options.selection.selects(held));
            let attempts = selected.filter_map(|held| held.dead_letter.as_ref()?.attempt());
            // Only who names a discarded record insists on it.
            let insists = self.options.force && self.options.selection.is_by_id();
            let attempts = attempts.collect::<Vec<_>>();
            let stale = stale::stale(&self.open, &self.table, &attempts, insists).await?;
            for held in page {
                self.bar.inc(1);
                self.bar.set_message(self.summary.redriven.len().to_string());
                self.redrive(queue, &held, &stale).await;
            }
            if self.options.selection.all_ids_found_in(&self.seen) {
                break;
            }
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    /// Redrives one dead letter, if it is selected and its record can be redriven. Deletes it, if it is stale.
    async fn redrive(&mut self, queue: &mut Queue, held: &ReceivedMessage, stale: &BTreeMap<Attempt, Stale>) {
        if !self.options.selection.selects(held) {
            return;
        }
        let attempt = held.dead_letter.as_ref().and_then(DeadLetter::attempt);
        if let Some(why) = attempt.and_then(|attempt| stale.get(&attempt)) {
            // A record at a later attempt may have a dead letter of that attempt, or none. One that is discarded is not redriven, which is
            // said below.
            if *why == Stale::Complete {
                self.seen.push(held.clone());
            }
            self.delete_stale(queue, held).await;
            return;
        }
        if !self.ids.insert(held.id()) {
            return;
        }
        self.seen.push(held.clone());
        let Some((dead_letter, attempt)) = redrivable(held, &mut self.summary, self.options.force) else {
            return;
        };
        if self.options.dry_run {
            self.summary.redriven.push(held.id());
            return;
        }
        self.interval.tick().await;
        queue.handled += 1;
        let delay = self.delay_after(attempt);
        let moved =
            move_to_redrive_queue(&self.redrives, queue, held, dead_letter, delay, self.options.force);
        match moved.await {
            Ok(()) => {
                self.was_sent(attempt, delay).await;
                self.summary.redriven.push(held.id());
            }
            Err(error) => self.report_failure(&held.id(), &error),
        }
    }

    async fn delete_stale(&mut self, queue: &mut Queue, held: &ReceivedMessage) {
        queue.handled += usize::from(!self.options.dry_run);
        if !self.options.dry_run
            && let Err(error) = queue.remove(held).await
        {
            self.report_failure(&held.id(), &error);
            return;
        }
        self.summary.stale.push(held.id());
    }

    fn report_failure(&mut self, id: &str, error: &anyhow::Error) {
        self.bar.suspend(|| self.output.complain(&format!("could not redrive {id}: {error:#}")));
        self.summary.failed.push(id.to_owned());
    }

    /// Notes in the open record when a redrive is due that was sent: a note before would claim a redrive that a crash prevents.
    async fn was_sent(&mut self, attempt: Attempt, delay: Duration) {
        self.attempts.push(attempt);
        self.summary.longest_delay = self.summary.longest_delay.max(delay);
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
    async fn redrive_ids_without_dead_letters(
        &mut self,
        queue: &mut Queue,
        deployment: &Deployment,
    ) -> anyhow::Result<bool> {
        let mut is_missing = false;
        let ids: Vec<String> =
            self.options.selection.missing(&self.seen).into_iter().map(str::to_owned).collect();
        for id in ids {
            let found = match id.parse::<RecordId>() {
                Ok(id) => {
                    source::dead_letter_of(deployment, id, self.options.force, self.options.now).await?
                }
                Err(error) => Err(error.to_string()),
            };
            match found {
                Ok(dead_letter) => _ = self.redrive_rebuilt(queue, id, &dead_letter).await,
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

    /// Redrives the other selected failed records whose dead letters were not read: another reader hides them, or they have expired.
    async fn redrive_unread(
        &mut self,
        queue: &mut Queue,
        deployment: &Deployment,
        began: Timestamp,
    ) -> anyhow::Result<()> {
        if self.options.selection.is_by_id() {
            return Ok(());
        }
        let is_read = |id: RecordId| self.ids.contains(&id.to_string());
        let (found, at_least) = source::unread(deployment, &self.options, began, is_read).await?;
        if at_least {
            self.output.complain(
                "more records have failed than were looked through; run the command again for the rest",
            );
        }
        for unread in found {
            match unread {
                Unread::Redrivable(dead_letter) => {
                    let id = dead_letter.message_id.map(|id| id.to_string()).unwrap_or_default();
                    if self.redrive_rebuilt(queue, id.clone(), &dead_letter).await {
                        self.summary.without_dead_letter.push(id);
                    }
                }
                Unread::Pending(id) => self.summary.pending.push(id.to_string()),
                Unread::Parked(id) => self.summary.parked.push(id.to_string()),
                Unread::Waiting(attempt) => {
                    self.summary.waiting.push(attempt.record.to_string());
                    self.attempts.push(attempt);
                }
            }
        }
        Ok(())
    }

    /// Sends a dead letter to the redrive queue that was rebuilt from its record. Returns whether it was sent.
    async fn redrive_rebuilt(&mut self, queue: &mut Queue, id: String, dead_letter: &DeadLetter) -> bool {
        if !self.options.dry_run {
            self.interval.tick().await;
            queue.handled += 1;
            let delay = dead_letter.attempt().map_or(Duration::ZERO, |attempt| self.delay_after(attempt));
            if let Err(error) = self.redrives.deliver(dead_letter, delay, self.options.force).await {
                self.report_failure(&id, &error.into());
                return false;
            }
            if let Some(attempt) = dead_letter.attempt() {
                self.was_sent(attempt, delay).await;
            }
        }
        self.summary.redriven.push(id);
        true
    }
}

/// Returns the dead letter and its attempt if the record can be redriven. Otherwise adds its id to the list of
/// `summary` that names the reason.
fn redrivable<'a>(
    held: &'a ReceivedMessage,
    summary: &mut Summary,
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
