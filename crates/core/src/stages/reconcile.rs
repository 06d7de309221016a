//! Reconcile: does the pending work of every open record that is due.
//!
//! *Invariant:* before reconcile announces, closes, starts or redrives a record, it takes the record's turn: one
//! conditional write that moves the time of the next look and, if an execution is about to be started, counts this
//! start. So two copies of reconcile never act on the same look. The upkeep of claim and expiry needs no turn, because
//! it may be repeated.

mod adopt;
mod budget;
mod closing;
mod failing;
mod look;
mod report;
mod starting;
mod survey;
mod turns;
mod upkeep;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tracing::{info, warn};

use self::{budget::Budget, look::ItemLookup, survey::Survey};
pub use self::{
    report::{LookResult, Report},
    turns::MAX_LOOK_INTERVAL,
};
use crate::{
    clock::Clock as _,
    error::StageError,
    open_record::IndexEntry,
    ports::{Deployment, RecordTable as _},
    record_id::RecordId,
    redrive_policy::RedrivePolicy,
};

/// The settings of reconcile.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long after its acceptance or its redrive reconcile first looks at a record.
    pub first_look: Duration,
    /// For a workflow that does not recognize names (`EXPRESS`): the time after which an execution that was started has
    /// certainly ended.
    pub restart_after: Duration,
    /// The minimum time over which executions of an attempt are started before the attempt fails with
    /// `WorkflowIncomplete`.
    pub patience: Duration,
    /// The time in which one run looks at due records. The adoption of markers comes before and has its own budget (20
    /// s).
    pub budget: Duration,
    /// How many records one run looks at concurrently.
    pub concurrency: usize,
    /// The maximum number of executions that one run of reconcile starts, so that a backlog leaves starts for new
    /// records.
    pub max_starts: usize,
    /// The maximum number of index entries of each kind that one run reads. If there are more, the counts are reported
    /// as "at least".
    pub max_listed: usize,
    /// The maximum number of acceptance markers that one run adopts.
    pub max_adopted: usize,
    /// When failed records are redriven automatically.
    pub policy: RedrivePolicy,
}

/// The maximum number of items in one request to the record table.
const TABLE_BATCH: usize = 100;

/// The reconcile stage over its ports.
pub struct Reconcile<D: Deployment> {
    /// The cache, which has payloads that are not archived.
    pub cache: D::Cache,
    /// The failed bucket, which has payloads of failed records.
    pub failed_store: D::FailedStore,
    /// The archive, which has archived payloads.
    pub archive: D::Archive,
    /// The open-record table, which lists the records with pending work.
    pub open_records: D::OpenRecords,
    /// The idempotency table, which has the claim of each idempotency key.
    pub claims: D::Claims,
    /// The acceptance markers, written while the open-record table was not available.
    pub markers: D::Markers,
    /// The record table, which reports the records that are complete.
    pub record_table: D::RecordTable,
    /// The workflow, which processes accepted records.
    pub workflow: D::Workflow,
    /// The failure function, which handles failures.
    pub failure_handler: D::FailureHandler,
    /// The notification topic, which informs subscribers.
    pub topic: D::Notifier,
    pub clock: D::Clock,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    pub settings: Settings,
}

impl<D: Deployment> Reconcile<D> {
    /// Adopts markers, then does the work of the open records that are due, until the time budget is used up. Records
    /// that were not reached, and work that could not be done now, are due again in a later run.
    ///
    /// `Err`: the open-record table could not be asked.
    pub async fn run(&self) -> Result<Report, StageError> {
        let began = self.clock.now();
        let adoptions = self.adopt_markers(began).await;
        let Survey { in_progress, failed, due } = self.survey(began).await?;
        let mut report = Report {
            open: in_progress.records,
            // Records that only have markers may be older than those in the index.
            oldest_open_age_seconds: in_progress.oldest_age_seconds.max(adoptions.oldest_age_seconds),
            failed: failed.records,
            open_over_ten_minutes: in_progress.over_ten_minutes,
            open_over_an_hour: in_progress.over_an_hour,
            oldest_failed_age_seconds: failed.oldest_age_seconds,
            at_least: in_progress.at_least || failed.at_least,
            markers: adoptions.markers,
            adopted: adoptions.adopted,
            due: due.len(),
            stuck: adoptions.stuck,
            errors: adoptions.errors,
            ..Report::default()
        };
        let budget = Budget::new(self.clock.now(), self.settings);
        for (batches_done, batch) in due.chunks(TABLE_BATCH).enumerate() {
            if budget.is_over(self.clock.now()) {
                report.not_reached = due.len() - batches_done * TABLE_BATCH;
                break;
            }
            self.look_at(batch, &budget).await.into_iter().for_each(|result| report.count(result));
        }
        info!(
            stage = "reconcile",
            open = report.open,
            failed = report.failed,
            due = report.due,
            "reconciled"
        );
        Ok(report)
    }

    /// Looks at the records of one batch, whose items are read together.
    async fn look_at(&self, batch: &[IndexEntry], budget: &Budget) -> Vec<LookResult> {
        let records: Vec<RecordId> = batch.iter().map(|entry| entry.id).collect();
        let items = self.record_table.states(&records).await;
        if let Err(error) = &items {
            // Without the items, reconcile would start completed records again.
            warn!(error.name = error.name.as_str(), %error, "cannot ask the record table; until the next run, due records are neither started nor closed");
        }
        let looks = records.into_iter().map(|id| {
            let item =
                items.as_ref().map_or(ItemLookup::Unavailable, |items| ItemLookup::Answered(items.get(&id)));
            self.look(id, item, budget)
        });
        stream::iter(looks).buffer_unordered(self.settings.concurrency).collect().await
    }
}

#[cfg(test)]
mod tests;
