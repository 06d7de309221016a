//! Reconcile: looks again at every record that has not reached its end, and helps it there.
//!
//! *Invariant:* a pending entry goes only when the record has its end: its item says `COMPLETED`, its execution
//! succeeded, its execution ended after the failure function was done, or a later run took its place. Everything here may
//! run twice at once: starting is once per run, the failure function repeats itself harmlessly, and clearing is clearing.

pub mod ended;
mod listing;
mod report;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tracing::{error, info, warn};

pub use self::{
    listing::{Answer, Listing, PendingEntry, Request},
    report::{Looked, Report},
};
use crate::{
    clock::{Clock, Timestamp},
    digest::Sha256,
    error::{ErrorKind, ErrorName, StageError},
    message::InternalMessage,
    ports::{
        FailureHandler, ItemState, Outcome, PayloadCache, PendingMarkers, PendingRuns, RecordTable, Start,
        Workflow,
    },
    record_id::RecordId,
    run::Run,
};

/// How reconcile works through what is pending.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a record may be pending before it is looked at.
    pub min_age: Duration,
    /// How long one run of reconcile begins new work.
    pub budget: Duration,
    /// How many records to look at at once.
    pub concurrency: usize,
    /// How many outcomes of executions to ask for in one run. Step Functions answers `DescribeExecution` 15 times a second
    /// by default, `StartExecution` ten times as often; so what a start or the table can tell is asked there.
    pub max_outcomes: usize,
    /// How many pending runs to read from each store.
    pub max_pending: usize,
}

/// After how many failed calls in one run Step Functions is left in peace until the next.
const MAX_WORKFLOW_FAILURES: usize = 20;

/// How many items the table is asked for at once, its limit.
const TABLE_BATCH: usize = 100;

/// The reconcile stage over its ports.
#[derive(Debug)]
pub struct Reconcile<C, M, T, W, H, K> {
    /// Has pending entries.
    pub cache: C,
    /// Has the markers of records that went past the cache.
    pub markers: M,
    /// Knows what is complete.
    pub table: T,
    /// Knows, or starts, executions.
    pub workflow: W,
    /// Does what a bad end needs.
    pub failure_handler: H,
    /// Tells the time.
    pub clock: K,
    /// How to go about it.
    pub settings: Settings,
}

/// A pending run and where it is noted.
#[derive(Clone, Copy, Debug)]
struct Noted {
    run: Run,
    since: Timestamp,
    in_cache: bool,
    in_markers: bool,
}

/// What one run of reconcile has used up.
#[derive(Debug)]
struct Spent {
    began: Timestamp,
    outcomes: AtomicUsize,
    workflow_failures: AtomicUsize,
}

impl<C, M, T, W, H, K> Reconcile<C, M, T, W, H, K>
where
    C: PayloadCache + PendingRuns,
    M: PendingMarkers + PendingRuns,
    T: RecordTable,
    W: Workflow,
    H: FailureHandler,
    K: Clock,
{
    /// Looks at what is pending, as far as the time goes. What is not reached, or cannot be helped now, stays pending
    /// for the next run.
    ///
    /// It fails where neither store can say what is pending.
    pub async fn run(&self) -> Result<Report, StageError> {
        let began = self.clock.now();
        let (noted, errors) = self.noted().await?;
        let mut report = Report::new(noted.values().map(|noted| noted.since), began);
        report.errors = errors;

        let mut due: Vec<Noted> = noted.into_values().filter(|noted| self.is_due(*noted, began)).collect();
        report.due = due.len();
        self.extend(&due).await;
        // More than one run can do comes to its turn all the same, because each begins elsewhere.
        let start = anywhere(began, due.len());
        due.rotate_left(start);

        let spent = Spent { began, outcomes: AtomicUsize::new(0), workflow_failures: AtomicUsize::new(0) };
        for (reached, batch) in due.chunks(TABLE_BATCH).enumerate() {
            if self.is_over(began) {
                report.not_reached = due.len() - reached * TABLE_BATCH;
                break;
            }
            let states = self.states(batch).await;
            let looks =
                batch.iter().map(|noted| self.look(*noted, states.get(&noted.run.record).copied(), &spent));
            let mut looks = stream::iter(looks).buffer_unordered(self.settings.concurrency);
            while let Some(looked) = looks.next().await {
                report.count(looked);
            }
        }
        info!(stage = "reconcile", pending = report.pending, due = report.due, "reconciled");
        Ok(report)
    }

    /// All pending runs, by name, and how many stores could not be asked.
    async fn noted(&self) -> Result<(BTreeMap<Run, Noted>, usize), StageError> {
        let limit = self.settings.max_pending;
        let mut noted: BTreeMap<Run, Noted> = BTreeMap::new();
        let (cached, marked) = (self.cache.pending(limit).await, self.markers.pending(limit).await);
        let mut errors = 0;
        for (listed, in_cache) in [(cached.as_ref(), true), (marked.as_ref(), false)] {
            match listed {
                Ok(runs) => {
                    for pending in runs {
                        let entry = noted.entry(pending.run).or_insert(Noted {
                            run: pending.run,
                            since: pending.since,
                            in_cache: false,
                            in_markers: false,
                        });
                        entry.since = entry.since.min(pending.since);
                        entry.in_cache |= in_cache;
                        entry.in_markers |= !in_cache;
                    }
                }
                Err(error) => {
                    error!(error.name = error.name.as_str(), %error, "cannot see what is pending");
                    errors += 1;
                }
            }
        }
        match (cached, marked) {
            (Err(error), Err(_)) => Err(error),
            _ => Ok((noted, errors)),
        }
    }

    /// Old enough, or from a future that only a clock which went wrong can have seen.
    fn is_due(&self, noted: Noted, now: Timestamp) -> bool {
        now.distance(noted.since) >= self.settings.min_age
    }

    fn is_over(&self, began: Timestamp) -> bool {
        self.clock.now().distance(began) >= self.settings.budget
    }

    async fn extend(&self, due: &[Noted]) {
        let cached: Vec<_> =
            due.iter().filter(|noted| noted.in_cache).map(|noted| noted.run.record).collect();
        if cached.is_empty() {
            return;
        }
        if let Err(error) = self.cache.extend(&cached).await {
            warn!(error.name = error.name.as_str(), %error, "could not extend the life of pending payloads");
        }
    }

    async fn states(&self, batch: &[Noted]) -> BTreeMap<RecordId, ItemState> {
        let mut records: Vec<_> = batch.iter().map(|noted| noted.run.record).collect();
        // The table refuses a question that names a record twice.
        records.sort_unstable();
        records.dedup();
        self.table.states(&records).await.unwrap_or_else(|error| {
            // The table only saves questions; executions know as well.
            warn!(error.name = error.name.as_str(), %error, "could not ask the table");
            BTreeMap::new()
        })
    }

    /// Looks at one run.
    async fn look(&self, noted: Noted, state: Option<ItemState>, spent: &Spent) -> Looked {
        let run = noted.run;
        if self.is_over(spent.began) {
            return Looked::Postponed;
        }
        let looked = match state {
            Some(ItemState::Completed) => self.clear(noted).await,
            Some(ItemState::Failed { attempt, discarded })
                if attempt > run.attempt() || (discarded && attempt == run.attempt()) =>
            {
                self.clear(noted).await
            }
            _ => self.help(noted, spent).await,
        };
        looked.unwrap_or_else(|error| {
            if error.name == ErrorName::WorkflowUnavailable {
                spent.workflow_failures.fetch_add(1, Ordering::Relaxed);
            }
            error!(record.id = %run.record, attempt = run.attempt(), error.name = error.name.as_str(), %error, "could not reconcile record");
            if error.kind() == ErrorKind::Transient { Looked::Postponed } else { Looked::Stuck }
        })
    }

    async fn help(&self, noted: Noted, spent: &Spent) -> Result<Looked, StageError> {
        let run = noted.run;
        if spent.workflow_failures.load(Ordering::Relaxed) >= MAX_WORKFLOW_FAILURES {
            return Ok(Looked::Postponed);
        }
        let message = match self.message(noted).await? {
            // A later run has taken this one's place.
            Some(message) if message.run() > run => return self.clear(noted).await,
            // Runs of a record differ in no more than their number.
            Some(message) => Some(message.for_run(run, noted.since)),
            None => None,
        };
        if let Some(message) = &message {
            match self.workflow.start(message).await? {
                Start::Started => {
                    info!(record.id = %run.record, attempt = run.attempt(), "started the workflow");
                    return Ok(Looked::Started);
                }
                Start::Running => return Ok(Looked::Running),
                Start::Existed => {}
            }
        }
        if spent.outcomes.fetch_add(1, Ordering::Relaxed) >= self.settings.max_outcomes {
            return Ok(Looked::Postponed);
        }
        match (self.workflow.outcome(run).await?, message) {
            (Some(Outcome::Succeeded), _) => self.clear(noted).await,
            (Some(Outcome::Running), _) => Ok(Looked::Running),
            (Some(Outcome::Ended { cause, .. }), _) if ended::was_handled(&cause) => self.clear(noted).await,
            (Some(Outcome::Ended { execution_arn, error, cause }), Some(message)) => {
                let failed = ended::failed_record(message, execution_arn, &error, &cause);
                let finished = self.failure_handler.handle(&failed).await?.finished;
                warn!(record.id = %run.record, attempt = run.attempt(), error, finished, "had a failure handled");
                if !finished {
                    return Ok(Looked::Stuck);
                }
                // The failure function settles the run itself; this is for what it could not reach.
                self.clear(noted).await?;
                Ok(Looked::Failed)
            }
            // The execution ended between the two questions, or was deleted: the next run starts it anew.
            (None, Some(_)) => Ok(Looked::Postponed),
            (_, None) => {
                error!(record.id = %run.record, attempt = run.attempt(), "a pending record has no message");
                Ok(Looked::Stuck)
            }
        }
    }

    /// The marker's message where there is a marker: it says that the payload is in the archive.
    async fn message(&self, noted: Noted) -> Result<Option<InternalMessage>, StageError> {
        if noted.in_markers
            && let Some(message) = self.markers.message(noted.run).await?
        {
            return Ok(Some(message));
        }
        if noted.in_cache { self.cache.message(noted.run).await } else { Ok(None) }
    }

    async fn clear(&self, noted: Noted) -> Result<Looked, StageError> {
        if noted.in_cache {
            self.cache.settle(noted.run).await?;
        }
        if noted.in_markers {
            self.markers.clear(noted.run).await?;
        }
        Ok(Looked::Cleared)
    }
}

/// A place in a list of `len`, as good as random. Minutes alone would meet a list of a whole number of them at the same
/// place each time.
fn anywhere(now: Timestamp, len: usize) -> usize {
    let digest = Sha256::of(&now.unix_ms().to_be_bytes());
    digest.first_u32() as usize % len.max(1)
}
