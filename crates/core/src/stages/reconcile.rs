//! Reconcile: does for every open record that is due what it is owed.
//!
//! *Invariant:* before anything is done for a record, its turn is taken: a conditional write moves the time of its next look,
//! and counts the start. So two copies of reconcile never act on one look, and never start one execution twice.

mod adopt;
mod look;
mod report;
mod survey;

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tracing::{info, warn};

pub(in crate::stages) use self::look::Budget;
use self::look::Item;
pub use self::report::{Looked, Report};
use crate::{
    clock::{Clock as _, Timestamp},
    error::StageError,
    open_record::IndexEntry,
    ports::{Deployment, RecordTable as _},
    record_id::RecordId,
    redrive_policy::RedrivePolicy,
};

/// How reconcile works through what is open.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long after its acceptance, or its redrive, a record is looked at first.
    pub first_look: Duration,
    /// How long after a start an execution of a workflow that does not recognize names has certainly ended.
    pub restart_after: Duration,
    /// For how long executions are started before the record counts as one that the workflow cannot finish.
    pub patience: Duration,
    /// How long one run of reconcile begins new work.
    pub budget: Duration,
    /// How many records to look at at once.
    pub concurrency: usize,
    /// How many executions one run of reconcile starts at most, so that a backlog does not starve new records of starts.
    pub max_starts: usize,
    /// How many entries of the index, of each kind, one run reads. What is beyond is counted as "at least".
    pub max_listed: usize,
    /// How many acceptance markers one run adopts.
    pub max_adopted: usize,
    /// When failed records are redriven automatically.
    pub policy: RedrivePolicy,
}

/// The longest time between two looks at a record in progress: what is only in the cache is missed within minutes.
pub const MAX_LOOK_INTERVAL: Duration = Duration::from_mins(5);

/// How many items the record table is asked for at once, its limit.
const TABLE_BATCH: usize = 100;

/// The reconcile stage over its ports.
pub struct Reconcile<D: Deployment> {
    /// Has payloads that are not archived.
    pub cache: D::Cache,
    /// Has payloads of failed records.
    pub failed_store: D::Failed,
    /// Has payloads that are archived.
    pub archive: D::Archive,
    /// Lists what is owed.
    pub open: D::Open,
    /// Knows which record an idempotency key stands for.
    pub claims: D::Claims,
    /// Has the acceptances of a time without the open-record table.
    pub markers: D::Markers,
    /// Knows what is complete.
    pub table: D::Table,
    /// Takes records to their end.
    pub workflow: D::Workflow,
    /// Handles failures.
    pub failure_handler: D::Handler,
    /// Tells subscribers.
    pub topic: D::Topic,
    /// Tells the time.
    pub clock: D::Time,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    /// How to go about it.
    pub settings: Settings,
}

impl<D: Deployment> Reconcile<D> {
    /// Does what is due, as far as the time goes. What is not reached, or cannot be helped now, is due again later.
    ///
    /// It fails where the open-record table cannot be asked.
    pub async fn run(&self) -> Result<Report, StageError> {
        let began = self.clock.now();
        let mut report = Report::default();
        self.adopt_markers(began, &mut report).await;
        let due = self.survey(began, &mut report).await?;
        let budget = Budget::new(self.clock.now(), self.settings);
        for (done, batch) in due.chunks(TABLE_BATCH).enumerate() {
            if budget.is_over(self.clock.now()) {
                report.not_reached = due.len() - done * TABLE_BATCH;
                break;
            }
            self.look_at(batch, &budget, &mut report).await;
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

    async fn look_at(&self, batch: &[IndexEntry], budget: &Budget, report: &mut Report) {
        let records: Vec<RecordId> = batch.iter().map(|entry| entry.id).collect();
        let items = self.table.states(&records).await;
        if let Err(error) = &items {
            // Without it, what is complete would be started again.
            warn!(error.name = error.name.as_str(), %error, "cannot ask the record table; records are kept, and nothing is done for them before the next run");
        }
        let looks = records.into_iter().map(|id| {
            let item = items.as_ref().map_or(Item::Unknown, |items| Item::Known(items.get(&id)));
            self.look(id, item, budget)
        });
        let mut looks = stream::iter(looks).buffer_unordered(self.settings.concurrency);
        while let Some(looked) = looks.next().await {
            report.count(looked);
        }
    }

    /// When a record in progress is looked at after this many looks: the time between looks doubles, up to a limit.
    fn next_look(&self, looks: u32, now: Timestamp) -> Timestamp {
        let doubled = self.settings.first_look.saturating_mul(1 << looks.min(16));
        now.after(doubled.min(MAX_LOOK_INTERVAL))
    }
}

#[cfg(test)]
mod tests;
