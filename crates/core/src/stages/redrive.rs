//! Redrive: gives a failed record its next attempt, under its own id and with its own bytes.
//!
//! *Invariant:* a dead letter leaves the redrive queue only when its record is complete, discarded, at a later attempt, or
//! the dead letter is on the dead-letter queue again. The payload stays where it is: archive reads it from there.

mod batch;

use std::time::Duration;

use serde::Deserialize as _;
use tracing::{info, warn};

use super::reconcile::{Budget, Looked, Reconcile};
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

/// The message attribute by which a person insists on another attempt of a record that has used up its redrives, or was
/// discarded.
pub const FORCE: &str = "force";

/// How the payload of a failed record is durable: in the archive or in the failed bucket, which is as good.
const PRESERVED: Durability = Durability::Archived;

/// The redrive stage over its ports.
pub struct Redrive<D: Deployment> {
    /// Lists what is owed.
    pub open: D::Open,
    /// Knows what became of a record that is closed.
    pub table: D::Table,
    /// Takes the record to its end.
    pub workflow: D::Workflow,
    /// Gets dead letters back that must not, or cannot, be redriven.
    pub dead_letters: D::Letters,
    /// Tells the time.
    pub clock: D::Time,
    /// How often a record may be tried again.
    pub policy: RedrivePolicy,
    /// How long after its redrive reconcile looks at a record first.
    pub first_look: Duration,
}

/// What became of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The record is on its way again.
    InProgress(Attempt),
    /// The record is complete; there is nothing to do.
    AlreadyCompleted,
    /// A later attempt of the record was made, and has failed or not on its own account.
    Superseded,
    /// An operator has decided to leave the record as it is.
    Discarded,
    /// The dead letter is back on the dead-letter queue, with this remark.
    PutBack(String),
}

impl<D: Deployment> Redrive<D> {
    /// Gives the record of a dead letter its next attempt. An `Err` leaves the dead letter on the redrive queue.
    pub async fn redrive(&self, letter: DeadLetter, forced: bool) -> Result<Redriven, StageError> {
        let Some(failed) = letter.attempt() else {
            let remark = "a rejected request is no record: its producer got an error and no receipt, and sends it again; \
                          discard this dead letter when it has been seen";
            return self.put_back(letter, remark.to_owned()).await;
        };
        let waited = self.clock.now().since(letter.first_failed_at());
        if self.policy.is_parked(letter.failure.kind, failed.number(), waited) && !forced {
            let remark = format!(
                "parked after {} redrives; find out why it fails, then redrive it with --force",
                self.policy.max_attempts
            );
            return self.put_back(DeadLetter { parked: true, ..letter }, remark).await;
        }
        match self.open.find(failed.record).await? {
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
            info!(record.id = %id, attempt = failed.number(), "left a dead letter alone that a later attempt superseded");
            return Ok(Redriven::Superseded);
        }
        match &open.state {
            // This dead letter, or another copy of it, was delivered before.
            _ if current == failed.next() => {
                if self.workflow.recognizes_names() && open.state == OpenState::InProgress {
                    self.start(&open).await;
                }
                Ok(Redriven::InProgress(current))
            }
            OpenState::Failed { owed, .. } if current == failed && !owed.is_empty() => {
                let remark =
                    "reconcile does first what the failure still owes; redrive it again in some minutes";
                self.put_back(letter, remark.to_owned()).await
            }
            OpenState::Failed { failure, .. } if current == failed => {
                // Two deliveries at the same time would begin the attempt in the same words, and each would start it.
                let turn =
                    Turn { look_at: self.clock.now().after(self.first_look), start: None, is_missing: false };
                if !self.open.take_turn(&open, turn).await? {
                    let operation = format!("redrive attempt {failed}: somebody else has its turn");
                    return Err(StageError::new(ErrorName::TableUnavailable, operation));
                }
                match begin_next(
                    &self.open,
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
                self.put_back(letter, remark).await
            }
        }
    }

    /// A record that is closed is complete or discarded. A person may insist on another attempt of a discarded one.
    async fn redrive_closed(
        &self,
        letter: DeadLetter,
        failed: Attempt,
        forced: bool,
    ) -> Result<Redriven, StageError> {
        let id = failed.record;
        match self.table.states(&[id]).await?.remove(&id) {
            Some(ItemState::Completed(_)) => {
                info!(record.id = %id, "left a record alone that is COMPLETED already");
                Ok(Redriven::AlreadyCompleted)
            }
            Some(ItemState::Failed { attempt, .. }) if attempt > failed.number() => Ok(Redriven::Superseded),
            Some(ItemState::Failed { discarded: true, .. }) if !forced => {
                info!(record.id = %id, "left a record alone that was discarded");
                Ok(Redriven::Discarded)
            }
            Some(ItemState::Failed { discarded: true, .. }) => self.reopen(letter).await,
            _ => {
                let remark = "the record is not open, and its item reports neither completion nor discard; \
                              `custody trace` shows what is known of it";
                self.put_back(letter, remark.to_owned()).await
            }
        }
    }

    /// Adopts the dead letter of a discarded record, as the acceptance of its next attempt.
    async fn reopen(&self, letter: DeadLetter) -> Result<Redriven, StageError> {
        let message = match InternalMessage::deserialize(&letter.request) {
            Ok(message) if Some(message.message_id) == letter.message_id => message,
            _ => {
                let remark = "the dead letter has no message that could be redriven".to_owned();
                return self.put_back(letter, remark).await;
            }
        };
        let now = self.clock.now();
        let message = message.redriven(&letter.failure, now);
        let mut open = OpenRecord::begin(message, PRESERVED, None, now, now.after(self.first_look));
        // Another delivery of the dead letter may do the same at this moment. Where names are not recognized, both would start
        // it: reconcile does, in its turn.
        if self.workflow.recognizes_names() {
            self.open.accept(&open, None).await?;
            self.start(&open).await;
        } else {
            (open.starts, open.look_at) = (0, now);
            self.open.accept(&open, None).await?;
        }
        Ok(Redriven::InProgress(open.attempt()))
    }

    async fn start(&self, open: &OpenRecord) {
        start(&self.workflow, open).await;
    }

    async fn put_back(&self, letter: DeadLetter, remark: String) -> Result<Redriven, StageError> {
        let id = letter.message_id.map(|id| id.to_string());
        self.dead_letters.send(&letter.remarked(remark.clone())).await?;
        warn!(record.id = id, remark, "put a dead letter back on the dead-letter queue");
        Ok(Redriven::PutBack(remark))
    }
}

/// Redrives a failed record that reconcile looks at, where the policy has it redriven automatically.
pub(super) async fn automatically<D: Deployment>(
    reconcile: &Reconcile<D>,
    open: &OpenRecord,
    failure: &FailureSummary,
    budget: &Budget,
    now: Timestamp,
) -> Result<Looked, StageError> {
    let settings = &reconcile.settings;
    if !settings.policy.redrives(&open.message, failure) {
        let turn = Turn { look_at: now.after(DECISION_INTERVAL), start: None, is_missing: false };
        return Ok(if reconcile.open.take_turn(open, turn).await? {
            Looked::Undecided
        } else {
            Looked::NotDue
        });
    }
    if !budget.take_start() {
        return reconcile.postpone(open, now).await;
    }
    // Two copies of reconcile at the same time would begin the attempt in the same words, and each would start it.
    let turn = Turn { look_at: now.after(settings.first_look), start: None, is_missing: false };
    if !reconcile.open.take_turn(open, turn).await? {
        return Ok(Looked::NotDue);
    }
    let begun =
        begin_next(&reconcile.open, &reconcile.workflow, open, failure, now, settings.first_look).await?;
    Ok(if begun.is_some() { Looked::Redriven } else { Looked::NotDue })
}

/// Begins the attempt after a failed one, and starts it. `None` where the record is not open any more.
async fn begin_next(
    open_records: &impl OpenRecords,
    workflow: &impl Workflow,
    open: &OpenRecord,
    failure: &FailureSummary,
    now: Timestamp,
    first_look: Duration,
) -> Result<Option<Attempt>, StageError> {
    let message = open.message.redriven(failure, now);
    let next = OpenRecord::begin(message, PRESERVED, open.key, now, now.after(first_look));
    let Some(current) = open_records.redrive(&next).await? else { return Ok(None) };
    let attempt = current.attempt();
    // Somebody else's attempt is started by whoever began it.
    if current.message == next.message {
        start(workflow, &current).await;
        info!(record.id = %attempt.record, attempt = attempt.number(), stage = "redrive", "redrove record");
    }
    Ok(Some(attempt))
}

/// The attempt is on the list: a start that fails is made up for by reconcile.
async fn start(workflow: &impl Workflow, open: &OpenRecord) {
    if let Err(error) = workflow.start(&open.message, open.starts).await {
        let id = open.id();
        warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the workflow start to reconcile");
    }
}

#[cfg(test)]
mod tests;
