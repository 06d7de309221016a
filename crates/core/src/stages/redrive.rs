//! Redrive: gives a failed record its next attempt, with the same id and the same payload.
//!
//! *Invariant:* a dead letter leaves the redrive queue only if its record is complete, is discarded, or has a later
//! attempt, or after the dead letter was sent to the dead-letter queue again. The payload is not moved: the archive
//! stage reads it where it is.

mod batch;

use std::time::Duration;

use serde::Deserialize as _;
use tracing::{error, info, warn};

use self::batch::read;
use super::next_attempt::NextAttempt;
use crate::{
    attempt::Attempt,
    clock::Clock as _,
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    message::InternalMessage,
    open_record::{OpenRecord, OpenState},
    ports::{
        DeadLetters as _, Deployment, ItemState, OpenRecords as _, RecordTable as _, Turn, Workflow as _,
    },
    redrive_policy::RedrivePolicy,
    sqs_event::{BatchResponse, ItemFailure, SqsEvent},
};

/// The message attribute by which an operator forces another attempt of a record that is parked or discarded.
pub const FORCE_ATTRIBUTE: &str = "force";

/// The redrive stage over its ports.
pub struct Redrive<D: Deployment> {
    /// The open-record table, which stores the next attempt.
    pub open_records: D::OpenRecords,
    /// The record table, which reports whether a closed record is complete or discarded.
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
    /// Redrives every message of a batch. A message that causes an error stays on the redrive queue. SQS delivers it
    /// again, and after the last delivery moves it unchanged to the dead-letter queue. So a message that is not a dead
    /// letter goes back to the operator who sent it.
    pub async fn run(&self, batch: SqsEvent) -> BatchResponse {
        let mut response = BatchResponse::default();
        for message in batch.records {
            let redriven = match read(&message) {
                Ok(dead_letter) => self
                    .redrive(dead_letter, message.attribute(FORCE_ATTRIBUTE) == Some("true"))
                    .await
                    .map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = redriven {
                error!(
                    message.id = message.message_id,
                    error.name = error.name.as_str(),
                    %error,
                    "left a message on the redrive queue"
                );
                response.batch_item_failures.push(ItemFailure { item_identifier: message.message_id });
            }
        }
        response
    }

    /// Gives the record of a dead letter its next attempt. An `Err` leaves the dead letter on the redrive queue.
    pub async fn redrive(&self, dead_letter: DeadLetter, forced: bool) -> Result<Redriven, StageError> {
        let Some(failed) = dead_letter.attempt() else {
            let remark = "a rejected request is no record: its producer got an error and no receipt, and sends it again; \
                          discard this dead letter when it has been seen";
            return self.return_to_dead_letter_queue(dead_letter, remark.to_owned()).await;
        };
        let waited = self.clock.now().since(dead_letter.first_failed_at());
        if self.policy.is_parked(dead_letter.failure.kind, failed.number(), waited) && !forced {
            let remark = format!(
                "parked after {} redrives; find out why it fails, then redrive it with --force",
                self.policy.max_attempts
            );
            return self
                .return_to_dead_letter_queue(DeadLetter { parked: true, ..dead_letter }, remark)
                .await;
        }
        match self.open_records.find(failed.record).await? {
            Some(open) if open.attempt() == failed && !forced && self.is_discarded(failed).await? => {
                info!(record.id = %failed.record, "ignored the dead letter of a record that reconcile will close as discarded");
                Ok(Redriven::Discarded)
            }
            Some(open) => self.redrive_open(open, dead_letter, failed).await,
            None => self.redrive_closed(dead_letter, failed, forced).await,
        }
    }

    async fn redrive_open(
        &self,
        open: OpenRecord,
        dead_letter: DeadLetter,
        failed: Attempt,
    ) -> Result<Redriven, StageError> {
        let (id, current) = (failed.record, open.attempt());
        if current > failed.next() {
            info!(record.id = %id, attempt = failed.number(), "ignored a dead letter that a later attempt superseded");
            return Ok(Redriven::Superseded);
        }
        match &open.state {
            // The next attempt has begun already: this dead letter or a copy of it was delivered before, or reconcile
            // has redriven the record.
            _ if current == failed.next() => {
                if self.workflow.recognizes_names() && open.state == OpenState::InProgress {
                    self.next_attempt().start(&open).await;
                }
                Ok(Redriven::InProgress(current))
            }
            OpenState::Failed { pending_steps, .. } if current == failed && !pending_steps.is_empty() => {
                let remark =
                    "reconcile first does the steps that are still pending; redrive it again in some minutes";
                self.return_to_dead_letter_queue(dead_letter, remark.to_owned()).await
            }
            OpenState::Failed { failure, .. } if current == failed => {
                // Two concurrent deliveries would begin the attempt with equal content, and each of them would start
                // it. The turn allows only one of them to do so.
                let turn = Turn::until(self.clock.now().after(self.first_look));
                if !self.open_records.take_turn(&open, turn).await? {
                    let operation = format!("redrive attempt {failed}: another caller has taken its turn");
                    return Err(StageError::new(ErrorName::TableUnavailable, operation));
                }
                match self.next_attempt().begin(&open, failure, self.clock.now()).await? {
                    Some(attempt) => Ok(Redriven::InProgress(attempt)),
                    None => Ok(Redriven::Superseded),
                }
            }
            _ => {
                let remark = format!("attempt {} of the record has not failed", current.number());
                self.return_to_dead_letter_queue(dead_letter, remark).await
            }
        }
    }

    /// Returns whether an operator has discarded an attempt that has failed.
    async fn is_discarded(&self, failed: Attempt) -> Result<bool, StageError> {
        let state = self.record_table.states(&[failed.record]).await?.remove(&failed.record);
        Ok(matches!(
            state,
            Some(ItemState::Failed { discarded: Some(_), attempt }) if attempt >= failed.number()
        ))
    }

    /// Handles the dead letter of a closed record, which is complete or discarded. An operator may force another
    /// attempt of a discarded record.
    async fn redrive_closed(
        &self,
        dead_letter: DeadLetter,
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
            Some(ItemState::Failed { discarded: Some(_), .. }) if !forced => {
                info!(record.id = %id, "ignored the dead letter of a discarded record");
                Ok(Redriven::Discarded)
            }
            Some(ItemState::Failed { discarded: Some(_), .. }) => self.reopen(dead_letter).await,
            _ => {
                let remark = "the record is not open, and its item reports neither completion nor discard; \
                              `custody trace` shows what is known of it";
                self.return_to_dead_letter_queue(dead_letter, remark.to_owned()).await
            }
        }
    }

    /// Reopens a discarded record: accepts its next attempt, made from the message in the dead letter.
    async fn reopen(&self, dead_letter: DeadLetter) -> Result<Redriven, StageError> {
        let message = match InternalMessage::deserialize(&dead_letter.request) {
            Ok(message) if Some(message.message_id) == dead_letter.message_id => message,
            _ => {
                let remark = "the dead letter has no message that could be redriven".to_owned();
                return self.return_to_dead_letter_queue(dead_letter, remark).await;
            }
        };
        let now = self.clock.now();
        let mut open = self.next_attempt().of(&message, &dead_letter.failure, None, now);
        // Two deliveries of the dead letter may do this at the same time. With a workflow that does not recognize
        // names, each would start its own execution. So in that case nothing is started here: the open record has zero
        // starts and is due now, and reconcile starts it in its turn.
        if self.workflow.recognizes_names() {
            self.open_records.accept(&open, None).await?;
            self.next_attempt().start(&open).await;
        } else {
            (open.starts, open.look_at) = (0, now);
            self.open_records.accept(&open, None).await?;
        }
        Ok(Redriven::InProgress(open.attempt()))
    }

    fn next_attempt(&self) -> NextAttempt<'_, D> {
        NextAttempt {
            open_records: &self.open_records,
            workflow: &self.workflow,
            first_look: self.first_look,
        }
    }

    async fn return_to_dead_letter_queue(
        &self,
        dead_letter: DeadLetter,
        remark: String,
    ) -> Result<Redriven, StageError> {
        let (id, attempt) = (dead_letter.message_id.map(|id| id.to_string()), dead_letter.attempt());
        self.dead_letters.send(&dead_letter.with_remark(remark.clone())).await?;
        warn!(record.id = id, remark, "sent a dead letter to the dead-letter queue again");
        // The note is for people: it must not bring the dead letter to this function again, which would send it a second time.
        if let Some(attempt) = attempt
            && let Err(error) = self.open_records.note_redrive(attempt, None).await
        {
            warn!(record.id = id, %error, "could not remove the note of a redrive that does not take place");
        }
        Ok(Redriven::ReturnedToDeadLetterQueue(remark))
    }
}

#[cfg(test)]
mod tests;
