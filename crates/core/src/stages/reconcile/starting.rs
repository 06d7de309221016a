//! Starting: of executions for records in progress.

use tracing::{info, warn};

use super::{LookResult, Reconcile, budget::Budget};
use crate::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    open_record::{OpenRecord, OpenState},
    payload_search::is_missing,
    ports::{Deployment, OpenRecords as _, Start, Turn, Workflow as _},
    receipt::Durability,
};

/// The minimum number of executions of an attempt before the workflow counts as unable to finish the record.
const MIN_STARTS: u32 = 3;

impl<D: Deployment> Reconcile<D> {
    /// Starts an execution if none is running. If the payload is in no store, invokes the failure function instead.
    pub(super) async fn start_unless_missing(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        let id = record.id();
        if record.durability != Durability::Archived || record.missing_since.is_some() {
            match is_missing(&self.cache, &self.failed_store, &self.archive, &record.message).await {
                Ok(true) => {
                    let text = "the payload is in neither cache, failed bucket nor archive";
                    return self.invoke_failure_function(record, now, ErrorName::PayloadMissing, text).await;
                }
                Ok(false) => {}
                Err(error) => {
                    warn!(record.id = %id, error.name = error.name.as_str(), %error, "cannot tell whether a payload is missing");
                }
            }
        }
        self.start(record, budget, now).await
    }

    async fn start(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        // No start was counted: the record was adopted from a marker, or reopened with a workflow that forgets names.
        if record.starts == 0 {
            return self.start_next(record, budget, now).await;
        }
        if !self.workflow.recognizes_names() {
            if now.since(record.started_at) < self.settings.restart_after {
                return Ok(if self.take_turn(record, now).await? {
                    LookResult::Running
                } else {
                    LookResult::NotDue
                });
            }
            return self.start_next(record, budget, now).await;
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        if !self.take_turn(record, now).await? {
            return Ok(LookResult::NotDue);
        }
        match self.workflow.start(&record.message, record.starts).await? {
            Start::Started => {
                info!(record.id = %record.id(), attempt = record.attempt().number(), start = record.starts, "started the workflow");
                Ok(LookResult::Started)
            }
            Start::Running => Ok(LookResult::Running),
            // The last execution has ended without closing the record. If the record is still in progress at this
            // attempt, it needs a further execution.
            Start::Ended => match self.open_records.find(record.id()).await? {
                Some(again)
                    if again.attempt() == record.attempt() && again.state == OpenState::InProgress =>
                {
                    self.start_next(&again, budget, now).await
                }
                _ => Ok(LookResult::NotDue),
            },
        }
    }

    /// Counts a further start of the attempt and makes it. If the attempt has had enough starts over enough time,
    /// invokes the failure function with `WorkflowIncomplete` instead. The time ends at the last start, not now, so
    /// that an outage in which nothing could be started does not count.
    async fn start_next(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        let tried_for = record.started_at.since(record.message.begun_at());
        if tried_for >= self.settings.patience && record.starts >= MIN_STARTS {
            let text = "the workflow was started repeatedly and did not bring the record to an end";
            return self.invoke_failure_function(record, now, ErrorName::WorkflowIncomplete, text).await;
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        let look_at = self.next_look(record.looks + 1, now);
        let turn = Turn { look_at, start: Some(now), is_missing: false };
        if !self.open_records.take_turn(record, turn).await? {
            return Ok(LookResult::NotDue);
        }
        let start = record.starts + 1;
        self.workflow.start(&record.message, start).await?;
        info!(record.id = %record.id(), attempt = record.attempt().number(), start, "started the workflow");
        Ok(LookResult::Started)
    }
}
