//! Begins the next attempt of a failed record. The redrive function and reconcile use this module.

use std::time::Duration;

use tracing::{info, warn};

use crate::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::StageError,
    idempotency::IdempotencyKey,
    message::InternalMessage,
    open_record::OpenRecord,
    ports::{Deployment, OpenRecords as _, Workflow as _},
    receipt::Durability,
};

/// The durability of a failed record's payload: it is in the archive, or in the failed bucket, which is as durable as
/// the archive.
const FAILED_PAYLOAD_DURABILITY: Durability = Durability::Archived;

/// The ports that begin the next attempt of a failed record.
pub(super) struct NextAttempt<'a, D: Deployment> {
    pub(super) open_records: &'a D::OpenRecords,
    pub(super) workflow: &'a D::Workflow,
    /// How long after its redrive reconcile first looks at a record.
    pub(super) first_look: Duration,
}

impl<D: Deployment> NextAttempt<'_, D> {
    /// Replaces a failed attempt by the next one in the open-record table, then starts its first execution. Returns the
    /// current attempt, also if another caller has begun it; `None` if the record is no longer open.
    ///
    /// Two concurrent callers would begin the attempt with equal content, and each of them would start it. Therefore a
    /// caller takes the record's turn first.
    pub(super) async fn begin(
        &self,
        open: &OpenRecord,
        failure: &FailureSummary,
        now: Timestamp,
    ) -> Result<Option<Attempt>, StageError> {
        let next = self.of(&open.message, failure, open.key, now);
        let Some(current) = self.open_records.redrive(&next).await? else { return Ok(None) };
        let attempt = current.attempt();
        // If another caller has begun the attempt, that caller starts it.
        if current.message == next.message {
            self.start(&current).await;
            info!(record.id = %attempt.record, attempt = attempt.number(), stage = "redrive", "redrove record");
        }
        Ok(Some(attempt))
    }

    /// Returns the open record of the attempt after the one that failed.
    pub(super) fn of(
        &self,
        failed: &InternalMessage,
        failure: &FailureSummary,
        key: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> OpenRecord {
        let message = failed.redriven(failure, now);
        OpenRecord::begin(message, FAILED_PAYLOAD_DURABILITY, key, now, now.after(self.first_look))
    }

    /// Starts the workflow for an attempt that the open-record table has. Reconcile makes up for a start that fails.
    pub(super) async fn start(&self, open: &OpenRecord) {
        if let Err(error) = self.workflow.start(&open.message, open.starts).await {
            let id = open.id();
            warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the workflow start to reconcile");
        }
    }
}
