//! Failure: secures the payload of a record whose workflow failed, and reports the failure, so that an operator or a
//! redrive can decide about the record.
//!
//! *Invariant:* before the failure is reported, the payload is archived or preserved, or it counts as lost and the
//! report states this. The open record lists every step of the report until the step is done; reconcile has the
//! remaining steps done.

mod secure;

use std::time::Duration;

use strum::VariantArray as _;
use tracing::{error, info, warn};

use self::secure::SecuredPayload;
use crate::{
    backoff,
    clock::{Clock as _, Timestamp},
    dead_letter::{DeadLetter, FailureSummary, StageFailure},
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    message::InternalMessage,
    notification::Notification,
    open_record::{FailureStep, OpenRecord, OpenState},
    ports::{
        DeadLetters as _, Deployment, FailedItem, Notifier as _, OpenRecords as _, PayloadCache as _,
        RecordTable as _,
    },
    redrive_policy::{DECISION_INTERVAL, RedrivePolicy},
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[
    ErrorName::ArchiveUnavailable,
    ErrorName::CacheUnavailable,
    ErrorName::FailedStoreUnavailable,
    ErrorName::NewerSchemaVersion,
    ErrorName::TableUnavailable,
];

/// The minimum time between two searches that find a payload in no store, before the payload counts as lost. It is
/// longer than a failover of the cache takes. Source: Amazon ElastiCache user guide, "Minimizing downtime with
/// Multi-AZ", where a failover ends within seconds to a minute.
pub const LOSS_CONFIRMATION: Duration = Duration::from_secs(75);

/// The time until reconcile looks again at a failed record that has pending steps.
const PENDING_STEPS_INTERVAL: Duration = Duration::from_mins(2);

/// The failure stage over its ports.
pub struct Failure<D: Deployment> {
    /// The cache, which may have the payload.
    pub cache: D::Cache,
    /// The failed bucket, which may have the payload, or receives it.
    pub failed_store: D::FailedStore,
    /// The archive, which may have the payload already.
    pub archive: D::Archive,
    /// The open-record table, which lists the pending steps.
    pub open_records: D::OpenRecords,
    /// The record table, which stores the state `FAILED`.
    pub record_table: D::RecordTable,
    /// The dead-letter queue, which informs operators.
    pub dead_letters: D::DeadLetters,
    /// The notification topic, which informs subscribers.
    pub topic: D::Notifier,
    pub clock: D::Clock,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    /// The rules for automatic redrives and for parking.
    pub policy: RedrivePolicy,
}

impl<D: Deployment> Failure<D> {
    /// Handles one failure. The call may be repeated: each step is done once, or repeated with the same content.
    ///
    /// `Err`: the payload could not be secured, or the open record could not be read or written. Nothing reports the
    /// failure before the open record is failed.
    pub async fn run(&self, record: FailedRecord) -> Result<FailureReceipt, StageError> {
        let id = record.message.message_id;
        let attempt = record.message.attempt();
        let Some(open) = self.open_records.find(id).await? else {
            info!(record.id = %id, "ignored the failure of a closed record");
            return Ok(FailureReceipt { message_id: id, finished: true });
        };
        if open.attempt() != attempt {
            info!(record.id = %id, attempt = attempt.number(), "ignored the failure of a superseded attempt");
            return Ok(FailureReceipt { message_id: id, finished: true });
        }
        let failed = match open.state {
            OpenState::Failed { .. } => Some(open),
            OpenState::InProgress => self.fail(record, open).await?,
        };
        let Some(failed) = failed else { return Ok(FailureReceipt { message_id: id, finished: false }) };
        let finished = self.do_pending_steps(&failed).await?;
        Ok(FailureReceipt { message_id: id, finished })
    }

    /// Changes the open record to failed, after the payload is secured. Returns `None` if a missing payload does not
    /// count as lost yet, or if the attempt is no longer open.
    async fn fail(&self, record: FailedRecord, open: OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let FailedRecord { message, archive, metadata, mut failures, execution_arn } = record;
        let (attempt, now) = (message.attempt(), self.clock.now());
        // The payload is secured first, because all later steps refer to it.
        let secured = match archive {
            Some(receipt) => SecuredPayload::Archived(receipt.s3_reference),
            None => self.secure_payload(&message).await?,
        };
        if matches!(secured, SecuredPayload::Missing) {
            let since = self.open_records.note_missing(attempt, now, now.after(LOSS_CONFIRMATION)).await?;
            let Some(since) = since else { return Ok(None) };
            if now.since(since) < LOSS_CONFIRMATION {
                warn!(record.id = %attempt.record, "the payload is in no store; it is looked for again before it counts as lost");
                return Ok(None);
            }
            failures.insert(0, lost(since));
        }

        let mut context = message.storage_context.clone();
        context.redis_reference = None;
        context.s3_reference = secured.archived().cloned();
        context.persistence.s3 = context.s3_reference.is_some();
        context.persistence.metadata = metadata.is_some();
        context.metadata_reference = metadata.map(|receipt| receipt.metadata_reference);
        let mut failure = FailureSummary::new(failures, attempt.number(), now, execution_arn);
        failure.payload_reference = secured.reference().cloned();
        error!(
            record.id = %attempt.record,
            stage = failure.stage,
            error.name = failure.error_name,
            reason = failure.reason,
            "record failed"
        );
        let will_be_redriven = self.policy.redrives(&message, &failure);
        let pending_steps: Vec<_> = FailureStep::VARIANTS
            .iter()
            .copied()
            .filter(|step| match step {
                FailureStep::DeadLetter => !will_be_redriven,
                FailureStep::Unlink => secured.reference().is_some(),
                FailureStep::Item | FailureStep::Announcement => true,
            })
            .collect();
        let message = InternalMessage { storage_context: context, ..message };
        let look_at = now.after(PENDING_STEPS_INTERVAL);
        let failed = OpenRecord {
            message,
            look_at,
            looks: 0,
            state: OpenState::Failed { failure, pending_steps },
            ..open
        };
        self.open_records.fail(&failed).await
    }

    /// Does the pending steps of a failed attempt, in order. Returns whether none is left.
    async fn do_pending_steps(&self, failed: &OpenRecord) -> Result<bool, StageError> {
        let OpenState::Failed { failure, pending_steps } = &failed.state else { return Ok(false) };
        if pending_steps.is_empty() {
            return Ok(true);
        }
        let (attempt, now) = (failed.attempt(), self.clock.now());
        let mut left = Vec::new();
        let mut remarks = Vec::new();
        for step in pending_steps {
            let done = match step {
                FailureStep::Item => match self.record_table.fail(&failed.message, failure).await {
                    Ok(FailedItem::Failed) => Ok(()),
                    // Another execution of the attempt has completed the record. No step is pending, and this call
                    // reports nothing. The next look of reconcile announces the record and closes it, so this result is
                    // not `finished`.
                    Ok(FailedItem::AlreadyCompleted) => {
                        info!(record.id = %attempt.record, "did not report a failure, because the record is complete");
                        self.open_records.set_pending_steps(attempt, &[], now).await?;
                        return Ok(false);
                    }
                    // A later attempt has failed. Its open record has replaced this one, so there is nothing to do.
                    Ok(FailedItem::Superseded) => return Ok(true),
                    Err(error) => Err(error),
                },
                FailureStep::Unlink => self.cache.unlink(attempt.record).await,
                FailureStep::DeadLetter => {
                    self.dead_letters.send(&self.dead_letter(failed, failure, remarks.clone(), now)).await
                }
                FailureStep::Announcement => {
                    let told = Notification::failed(&self.event_source, &failed.message, failure);
                    self.topic.publish(&told).await
                }
            };
            if let Err(error) = done {
                warn!(record.id = %attempt.record, ?step, error.name = error.name.as_str(), %error, "left a pending step of a failure to reconcile");
                remarks.push(format!("{step:?} is still pending ({}: {error})", error.name.as_str()));
                left.push(*step);
            }
        }
        self.open_records
            .set_pending_steps(attempt, &left, self.next_look(failed, failure, &left, now))
            .await?;
        Ok(left.is_empty())
    }

    /// Returns when reconcile looks at the failed record next: to do pending steps, to redrive the record, or to see
    /// whether an operator has decided.
    fn next_look(
        &self,
        failed: &OpenRecord,
        failure: &FailureSummary,
        left: &[FailureStep],
        now: Timestamp,
    ) -> Timestamp {
        now.after(if !left.is_empty() {
            PENDING_STEPS_INTERVAL
        } else if self.policy.redrives(&failed.message, failure) {
            backoff::delay_after(failed.attempt())
        } else {
            DECISION_INTERVAL
        })
    }

    fn dead_letter(
        &self,
        failed: &OpenRecord,
        failure: &FailureSummary,
        mut remarks: Vec<String>,
        now: Timestamp,
    ) -> DeadLetter {
        if failure.payload_reference.is_none() {
            remarks.push("the payload is in no store; only the producer can send it again".to_owned());
        }
        let mut dead_letter = DeadLetter::of_record(&failed.message, failure.clone(), remarks);
        let waited = now.since(dead_letter.first_failed_at());
        dead_letter.parked = self.policy.is_parked(failure.kind, failure.attempt, waited);
        dead_letter
    }
}

fn lost(since: Timestamp) -> StageFailure {
    StageFailure {
        stage: "archive".to_owned(),
        error_name: ErrorName::PayloadLost.as_str().to_owned(),
        cause: format!(
            "the payload is in neither cache, failed bucket nor archive, and was in none of them at {since}"
        ),
        tries: 1,
    }
}

#[cfg(test)]
mod tests;
