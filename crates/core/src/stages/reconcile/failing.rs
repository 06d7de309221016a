//! Failed records: has the failure function do pending steps, and redrives transient failures automatically.

use tracing::warn;

use super::{LookResult, Reconcile, budget::Budget};
use crate::{
    clock::Timestamp,
    dead_letter::{FailureSummary, StageFailure},
    error::{ErrorName, StageError},
    failed_record::FailedRecord,
    open_record::OpenRecord,
    ports::{Deployment, FailureHandler as _, OpenRecords as _, Turn},
    redrive_policy::DECISION_INTERVAL,
    stages::next_attempt::NextAttempt,
};

impl<D: Deployment> Reconcile<D> {
    /// Takes the turn of a record and invokes the failure function for it.
    pub(super) async fn invoke_failure_function(
        &self,
        record: &OpenRecord,
        now: Timestamp,
        name: ErrorName,
        cause: &str,
    ) -> Result<LookResult, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        let turn = Turn { look_at, start: None, is_missing: name == ErrorName::PayloadMissing };
        if !self.open_records.take_turn(record, turn).await? {
            return Ok(LookResult::NotDue);
        }
        let failure = StageFailure {
            stage: "workflow".to_owned(),
            error_name: name.as_str().to_owned(),
            cause: cause.to_owned(),
            tries: record.starts,
        };
        let failed = FailedRecord::found(record.message.clone(), failure);
        let finished = self.failure_handler.handle(&failed).await?.finished;
        warn!(record.id = %record.id(), attempt = record.attempt().number(), error.name = name.as_str(), finished, "invoked the failure function");
        Ok(if finished { LookResult::Failed } else { LookResult::Postponed })
    }

    /// Redrives a failed record if the policy redrives it automatically. Otherwise moves the next look: the record
    /// waits for an operator.
    pub(super) async fn redrive_automatically(
        &self,
        record: &OpenRecord,
        failure: &FailureSummary,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        if !self.settings.policy.redrives(&record.message, failure) {
            let is_taken =
                self.open_records.take_turn(record, Turn::until(now.after(DECISION_INTERVAL))).await?;
            return Ok(if is_taken { LookResult::Undecided } else { LookResult::NotDue });
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        let first_look = self.settings.first_look;
        if !self.open_records.take_turn(record, Turn::until(now.after(first_look))).await? {
            return Ok(LookResult::NotDue);
        }
        let next: NextAttempt<'_, D> =
            NextAttempt { open_records: &self.open_records, workflow: &self.workflow, first_look };
        let begun = next.begin(record, failure, now).await?;
        Ok(if begun.is_some() { LookResult::Redriven } else { LookResult::NotDue })
    }
}
