//! Failure: brings a record whose workflow failed to where a person, or a redrive, can decide about it.
//!
//! *Invariant:* the payload is archived or preserved before anything tells of the failure, or the failure tells that it is
//! not. Whatever is not done is listed in the open record, and reconcile has it done.

mod input;
mod secure;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

pub use self::input::FailedRecord;
use self::secure::Secured;
use crate::{
    backoff,
    clock::{Clock as _, Timestamp},
    dead_letter::{DeadLetter, FailureSummary, StageFailure},
    error::{ErrorName, StageError},
    message::InternalMessage,
    notification::Notification,
    open_record::{FailureDuty, OpenRecord, OpenState},
    ports::{
        DeadLetters as _, Deployment, FailedItem, Notifier as _, OpenRecords as _, PayloadCache as _,
        RecordTable as _,
    },
    record_id::RecordId,
    redrive_policy::{DECISION_INTERVAL, RedrivePolicy},
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[
    ErrorName::ArchiveUnavailable,
    ErrorName::CacheUnavailable,
    ErrorName::FailedStoreUnavailable,
    ErrorName::TableUnavailable,
];

/// How long after a payload was first seen in no store it is looked for again, before it counts as lost: longer than a
/// failover of the cache takes. Source: Amazon ElastiCache user guide, "Minimizing downtime with Multi-AZ", which has a
/// failover end within seconds to a minute.
pub const LOSS_CONFIRMATION: Duration = Duration::from_secs(75);

/// When reconcile looks at a failed record whose duties are not all done.
const DUTY_INTERVAL: Duration = Duration::from_mins(2);

/// What the failure function did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReceipt {
    /// The record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// Whether nothing is left to do, for now, but to decide. Where it is not so, reconcile does the rest.
    pub finished: bool,
}

/// The failure stage over its ports.
pub struct Failure<D: Deployment> {
    /// May have the payload.
    pub cache: D::Cache,
    /// May have the payload, or takes it.
    pub failed_store: D::Failed,
    /// May have the payload already.
    pub archive: D::Archive,
    /// Lists what is owed.
    pub open: D::Open,
    /// Takes the state.
    pub table: D::Table,
    /// Tells operators.
    pub dead_letters: D::Letters,
    /// Tells subscribers.
    pub topic: D::Topic,
    /// Tells the time.
    pub clock: D::Time,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    /// When failed records are redriven automatically.
    pub policy: RedrivePolicy,
}

impl<D: Deployment> Failure<D> {
    /// Handles one failure. Every step may be repeated.
    ///
    /// `Err`: the payload could not be secured for now, or the open record not written; nothing tells of the failure yet.
    pub async fn run(&self, record: FailedRecord) -> Result<FailureReceipt, StageError> {
        let id = record.message.message_id;
        let attempt = record.message.attempt();
        let Some(open) = self.open.find(id).await? else {
            info!(record.id = %id, "left a record alone that is closed");
            return Ok(FailureReceipt { message_id: id, finished: true });
        };
        if open.attempt() != attempt {
            info!(record.id = %id, attempt = attempt.number(), "left an attempt alone that a later one superseded");
            return Ok(FailureReceipt { message_id: id, finished: true });
        }
        let failed = match open.state {
            OpenState::Failed { .. } => Some(open),
            OpenState::InProgress => self.fail(record, open).await?,
        };
        let Some(failed) = failed else { return Ok(FailureReceipt { message_id: id, finished: false }) };
        let finished = self.do_duties(&failed).await?;
        Ok(FailureReceipt { message_id: id, finished })
    }

    /// Puts the open record to failed, once the payload is secure. `None` where it is too early to say so.
    async fn fail(&self, record: FailedRecord, open: OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let FailedRecord { message, archive, metadata, mut failures, execution_arn } = record;
        let (attempt, now) = (message.attempt(), self.clock.now());
        // First the bytes: everything after this only talks about them.
        let secured = match archive {
            Some(receipt) => Secured::Archived(receipt.s3_reference),
            None => self.secure_payload(&message).await?,
        };
        if matches!(secured, Secured::Nowhere) {
            let since = self.open.note_missing(attempt, now, now.after(LOSS_CONFIRMATION)).await?;
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
        context.persistence.meta_data = metadata.is_some();
        context.meta_data_reference = metadata.map(|receipt| receipt.meta_data_reference);
        let mut failure = FailureSummary::new(failures, attempt.number(), now, execution_arn);
        failure.payload_reference = secured.reference().cloned();
        error!(
            record.id = %attempt.record,
            stage = failure.stage,
            error.name = failure.error_name,
            reason = failure.reason,
            "record failed"
        );
        let redriven = self.policy.redrives(&message, &failure);
        let owed: Vec<_> = FailureDuty::ALL
            .into_iter()
            .filter(|duty| match duty {
                FailureDuty::DeadLetter => !redriven,
                FailureDuty::Unlink => secured.reference().is_some(),
                FailureDuty::Item | FailureDuty::Announcement => true,
            })
            .collect();
        let message = InternalMessage { storage_context: context, ..message };
        let look_at = now.after(DUTY_INTERVAL);
        let failed =
            OpenRecord { message, look_at, looks: 0, state: OpenState::Failed { failure, owed }, ..open };
        self.open.fail(&failed).await
    }

    /// Does what a failed attempt still owes, in order; whether nothing is left.
    async fn do_duties(&self, failed: &OpenRecord) -> Result<bool, StageError> {
        let OpenState::Failed { failure, owed } = &failed.state else { return Ok(false) };
        if owed.is_empty() {
            return Ok(true);
        }
        let (attempt, now) = (failed.attempt(), self.clock.now());
        let mut left = Vec::new();
        let mut remarks = Vec::new();
        for duty in owed {
            let done = match duty {
                FailureDuty::Item => match self.table.fail(&failed.message, failure).await {
                    Ok(FailedItem::Marked) => Ok(()),
                    // Another execution of the attempt has completed the record: reconcile announces and closes it.
                    Ok(FailedItem::AlreadyCompleted) => {
                        info!(record.id = %attempt.record, "left a failure untold: the record is complete");
                        self.open.owe(attempt, &[], now).await?;
                        return Ok(false);
                    }
                    Ok(FailedItem::Superseded) => return Ok(true),
                    Err(error) => Err(error),
                },
                FailureDuty::Unlink => self.cache.unlink(attempt.record).await,
                FailureDuty::DeadLetter => {
                    self.dead_letters.send(&self.dead_letter(failed, failure, remarks.clone(), now)).await
                }
                FailureDuty::Announcement => {
                    let told = Notification::failed(&self.event_source, &failed.message, failure);
                    self.topic.publish(&told).await
                }
            };
            if let Err(error) = done {
                warn!(record.id = %attempt.record, ?duty, error.name = error.name.as_str(), %error, "left a duty of a failure to reconcile");
                remarks.push(format!("{duty:?} is still owed ({}: {error})", error.name.as_str()));
                left.push(*duty);
            }
        }
        self.open.owe(attempt, &left, self.next_look(failed, failure, &left, now)).await?;
        Ok(left.is_empty())
    }

    /// When the failed record is looked at next: to do the rest, to redrive it, or to see whether it was decided.
    fn next_look(
        &self,
        failed: &OpenRecord,
        failure: &FailureSummary,
        left: &[FailureDuty],
        now: Timestamp,
    ) -> Timestamp {
        now.after(if !left.is_empty() {
            DUTY_INTERVAL
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
        let mut letter = DeadLetter::of_record(&failed.message, failure.clone(), remarks);
        let waited = now.since(letter.first_failed_at());
        letter.parked = self.policy.is_parked(failure.kind, failure.attempt, waited);
        letter
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
