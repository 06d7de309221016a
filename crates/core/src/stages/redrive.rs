//! Redrive: gives a failed record its next attempt, with the same id and the same payload.
//!
//! *Invariant:* a dead letter leaves the redrive queue only when its record is complete, discarded or at a later
//! attempt, or when the dead letter is on the dead-letter queue again. The payload is not moved: the archive stage
//! reads it where it is.

mod batch;

use std::time::Duration;

use serde::Deserialize as _;
use tracing::{info, warn};

use super::reconcile::{Budget, LookResult, Reconcile};
use crate::{
    attempt::Attempt,
    clock::{Clock as _, Timestamp},
    dead_letter::{DeadLetter, FailureSummary},
    error::{ErrorName, StageError},
    message::InternalMessage,
    open_record::{OpenRecord, OpenState},
    ports::{DeadLetters as _, Deployment, ItemState, OpenRecords, RecordTable as _, Turn, Workflow},
    receipt::Durability,
    redrive_policy::{DECISION_INTERVAL, RedrivePolicy},
};

/// The message attribute by which an operator forces another attempt of a record that is parked or discarded.
pub const FORCE_ATTRIBUTE: &str = "force";

/// The durability of a failed record's payload. It is in the archive or in the failed bucket, which is as durable.
const FAILED_PAYLOAD_DURABILITY: Durability = Durability::Archived;

/// The redrive stage over its ports.
pub struct Redrive<D: Deployment> {
    /// The open-record table, which stores the next attempt.
    pub open_records: D::OpenRecords,
    /// The record table, which reports what became of a closed record.
    pub record_table: D::RecordTable,
    /// The workflow, which processes accepted records.
    pub workflow: D::Workflow,
    /// The dead-letter queue, which gets back the dead letters that must not, or cannot, be redriven.
    pub dead_letters: D::DeadLetters,
    pub clock: D::Clock,
    /// The rules by which failed records are redriven.
    pub policy: RedrivePolicy,
    /// How long after its redrive reconcile first looks at a record.
    pub first_look: Duration,
}

/// The result of redriving a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The record has its next attempt, which is this one.
    InProgress(Attempt),
    /// The record is complete already.
    AlreadyCompleted,
    /// The record has a later attempt, or is closed; this dead letter is out of date.
    Superseded,
    /// An operator has discarded the record.
    Discarded,
    /// The dead letter was sent to the dead-letter queue again, with this remark.
    ReturnedToDeadLetterQueue(String),
}

impl<D: Deployment> Redrive<D> {
    /// Gives the record of a dead letter its next attempt. An `Err` leaves the dead letter on the redrive queue.
    pub async fn redrive(&self, letter: DeadLetter, forced: bool) -> Result<Redriven, StageError> {
        let Some(failed) = letter.attempt() else {
            let remark = "a rejected request is no record: its producer got an error and no receipt, and sends it again; \
                          discard this dead letter when it has been seen";
            return self.return_to_dead_letter_queue(letter, remark.to_owned()).await;
        };
        let waited = self.clock.now().since(letter.first_failed_at());
        if self.policy.is_parked(letter.failure.kind, failed.number(), waited) && !forced {
            let remark = format!(
                "parked after {} redrives; find out why it fails, then redrive it with --force",
                self.policy.max_attempts
            );
            return self.return_to_dead_letter_queue(DeadLetter { parked: true, ..letter }, remark).await;
        }
        match self.open_records.find(failed.record).await? {
            Some(open) => self.redrive_open(open, letter, failed).await,
            None => self.redrive_closed(letter, failed, forced).await,
        }
    }

    async fn redrive_open(
        &self,
        open: OpenRecord,
        letter: DeadLetter,
        failed: Attempt,
    ) -> Result<Redriven, StageError> {
        let (id, current) = (failed.record, open.attempt());
        if current > failed.next() {
            info!(record.id = %id, attempt = failed.number(), "ignored a dead letter that a later attempt superseded");
            return Ok(Redriven::Superseded);
        }
        match &open.state {
            // This dead letter, or a copy of it, was delivered before.
            _ if current == failed.next() => {
                if self.workflow.recognizes_names() && open.state == OpenState::InProgress {
                    self.start(&open).await;
                }
                Ok(Redriven::InProgress(current))
            }
            OpenState::Failed { pending_steps, .. } if current == failed && !pending_steps.is_empty() => {
                let remark =
                    "reconcile first does the steps that are still pending; redrive it again in some minutes";
                self.return_to_dead_letter_queue(letter, remark.to_owned()).await
            }
            OpenState::Failed { failure, .. } if current == failed => {
                // Two concurrent deliveries would begin the attempt with equal content, and each of them would start
                // it. The turn allows only one of them to do so.
                let turn =
                    Turn { look_at: self.clock.now().after(self.first_look), start: None, is_missing: false };
                if !self.open_records.take_turn(&open, turn).await? {
                    let operation = format!("redrive attempt {failed}: another caller has taken its turn");
                    return Err(StageError::new(ErrorName::TableUnavailable, operation));
                }
                match begin_next_attempt(
                    &self.open_records,
                    &self.workflow,
                    &open,
                    failure,
                    self.clock.now(),
                    self.first_look,
                )
                .await?
                {
                    Some(attempt) => Ok(Redriven::InProgress(attempt)),
                    None => Ok(Redriven::Superseded),
                }
            }
            _ => {
                let remark = format!("attempt {} of the record has not failed", current.number());
                self.return_to_dead_letter_queue(letter, remark).await
            }
        }
    }

    /// Handles the dead letter of a closed record, which is complete or discarded. An operator may force another
    /// attempt of a discarded record.
    async fn redrive_closed(
        &self,
        letter: DeadLetter,
        failed: Attempt,
        forced: bool,
    ) -> Result<Redriven, StageError> {
        let id = failed.record;
        match self.record_table.states(&[id]).await?.remove(&id) {
            Some(ItemState::Completed(_)) => {
                info!(record.id = %id, "ignored the dead letter of a record that is COMPLETED already");
                Ok(Redriven::AlreadyCompleted)
            }
            Some(ItemState::Failed { attempt, .. }) if attempt > failed.number() => Ok(Redriven::Superseded),
            Some(ItemState::Failed { discarded: true, .. }) if !forced => {
                info!(record.id = %id, "ignored the dead letter of a discarded record");
                Ok(Redriven::Discarded)
            }
            Some(ItemState::Failed { discarded: true, .. }) => self.reopen(letter).await,
            _ => {
                let remark = "the record is not open, and its item reports neither completion nor discard; \
                              `custody trace` shows what is known of it";
                self.return_to_dead_letter_queue(letter, remark.to_owned()).await
            }
        }
    }

    /// Reopens a discarded record: accepts its next attempt, made from the message in the dead letter.
    async fn reopen(&self, letter: DeadLetter) -> Result<Redriven, StageError> {
        let message = match InternalMessage::deserialize(&letter.request) {
            Ok(message) if Some(message.message_id) == letter.message_id => message,
            _ => {
                let remark = "the dead letter has no message that could be redriven".to_owned();
                return self.return_to_dead_letter_queue(letter, remark).await;
            }
        };
        let now = self.clock.now();
        let message = message.redriven(&letter.failure, now);
        let mut open =
            OpenRecord::begin(message, FAILED_PAYLOAD_DURABILITY, None, now, now.after(self.first_look));
        // Another delivery of the dead letter may do the same at this moment. If the workflow does not recognize names,
        // both would start the attempt; therefore reconcile starts it, in its turn.
        if self.workflow.recognizes_names() {
            self.open_records.accept(&open, None).await?;
            self.start(&open).await;
        } else {
            (open.starts, open.look_at) = (0, now);
            self.open_records.accept(&open, None).await?;
        }
        Ok(Redriven::InProgress(open.attempt()))
    }

    async fn start(&self, open: &OpenRecord) {
        start(&self.workflow, open).await;
    }

    async fn return_to_dead_letter_queue(
        &self,
        letter: DeadLetter,
        remark: String,
    ) -> Result<Redriven, StageError> {
        let id = letter.message_id.map(|id| id.to_string());
        self.dead_letters.send(&letter.with_remark(remark.clone())).await?;
        warn!(record.id = id, remark, "put a dead letter back on the dead-letter queue");
        Ok(Redriven::ReturnedToDeadLetterQueue(remark))
    }
}

/// Redrives a failed record at which reconcile looks, if the policy allows an automatic redrive.
pub(super) async fn redrive_automatically<D: Deployment>(
    reconcile: &Reconcile<D>,
    open: &OpenRecord,
    failure: &FailureSummary,
    budget: &Budget,
    now: Timestamp,
) -> Result<LookResult, StageError> {
    let settings = &reconcile.settings;
    if !settings.policy.redrives(&open.message, failure) {
        let turn = Turn { look_at: now.after(DECISION_INTERVAL), start: None, is_missing: false };
        return Ok(if reconcile.open_records.take_turn(open, turn).await? {
            LookResult::Undecided
        } else {
            LookResult::NotDue
        });
    }
    if !budget.take_start() {
        return reconcile.postpone(open, now).await;
    }
    // Two concurrent copies of reconcile would begin the attempt with equal content, and each of them would start it.
    // The turn allows only one of them to do so.
    let turn = Turn { look_at: now.after(settings.first_look), start: None, is_missing: false };
    if !reconcile.open_records.take_turn(open, turn).await? {
        return Ok(LookResult::NotDue);
    }
    let begun = begin_next_attempt(
        &reconcile.open_records,
        &reconcile.workflow,
        open,
        failure,
        now,
        settings.first_look,
    )
    .await?;
    Ok(if begun.is_some() { LookResult::Redriven } else { LookResult::NotDue })
}

/// Begins the attempt after a failed one, and starts it. Returns `None` if the record is no longer open.
async fn begin_next_attempt(
    open_records: &impl OpenRecords,
    workflow: &impl Workflow,
    open: &OpenRecord,
    failure: &FailureSummary,
    now: Timestamp,
    first_look: Duration,
) -> Result<Option<Attempt>, StageError> {
    let message = open.message.redriven(failure, now);
    let next = OpenRecord::begin(message, FAILED_PAYLOAD_DURABILITY, open.key, now, now.after(first_look));
    let Some(current) = open_records.redrive(&next).await? else { return Ok(None) };
    let attempt = current.attempt();
    // If another caller has begun the attempt, that caller starts it.
    if current.message == next.message {
        start(workflow, &current).await;
        info!(record.id = %attempt.record, attempt = attempt.number(), stage = "redrive", "redrove record");
    }
    Ok(Some(attempt))
}

/// Starts the workflow for an attempt that the open-record table has. Reconcile makes up for a start that fails.
async fn start(workflow: &impl Workflow, open: &OpenRecord) {
    if let Err(error) = workflow.start(&open.message, open.starts).await {
        let id = open.id();
        warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the workflow start to reconcile");
    }
}

#[cfg(test)]
mod tests;
