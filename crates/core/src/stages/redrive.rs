//! Redrive: runs a failed record again, under its own id and with its own bytes.
//!
//! *Invariant:* a letter leaves the redrive queue only when its record has reached a good end, a later run, or the
//! dead-letter queue again. Before a new run's execution starts, payload and intent are durable, as on the first day.

mod batch;

use serde::Deserialize as _;
use tracing::{info, warn};

use crate::{
    clock::Clock,
    content::{Content, Digested},
    dead_letter::{DeadLetter, PastFailure},
    error::{ErrorKind, ErrorName, StageError},
    intake::{Intake, NoStore},
    message::{InternalMessage, Redrive as RedriveNote, StorageContext},
    ports::{
        DeadLetters, FailedStore, ItemState, PayloadArchive, PayloadCache, PendingMarkers, RecordTable,
        Workflow,
    },
    run::Run,
    stages::{
        archive,
        failure::{RedrivePolicy, kept_key},
    },
};

/// The message attribute by which a person insists on another run of a record that has used up its redrives.
pub const FORCE: &str = "force";

/// The redrive stage over its ports.
#[derive(Debug)]
pub struct Redrive<C, A, M, T, F, W, D, K> {
    /// Takes the payload again.
    pub cache: C,
    /// May have it already.
    pub archive: A,
    /// Takes the intent when the payload is in the archive.
    pub markers: M,
    /// Knows what became of the record meanwhile.
    pub table: T,
    /// Has the payload of a record that was not archived.
    pub failed_store: F,
    /// Takes the record to its end.
    pub workflow: W,
    /// Gets letters back that must not, or cannot, be redriven.
    pub dead_letters: D,
    /// Tells the time.
    pub clock: K,
    /// How often a record may run again.
    pub policy: RedrivePolicy,
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The record is on its way again.
    Running(Run),
    /// The record is complete; there is nothing to do.
    AlreadyCompleted,
    /// A later run of the record has failed, and has a letter of its own.
    Superseded,
    /// An operator has decided to leave the record as it is.
    Discarded,
    /// The letter is back on the dead-letter queue, with this remark.
    PutBack(String),
}

impl<C, A, M, T, F, W, D, K> Redrive<C, A, M, T, F, W, D, K>
where
    C: PayloadCache,
    A: PayloadArchive,
    M: PendingMarkers,
    T: RecordTable,
    F: FailedStore,
    W: Workflow,
    D: DeadLetters,
    K: Clock,
{
    /// Runs the record of a letter again. An `Err` leaves the letter on the redrive queue.
    pub async fn redrive(&self, letter: DeadLetter, forced: bool) -> Result<Redriven, StageError> {
        let Some(failed) = letter.run() else {
            let remark = "a refused request is no record: its producer got an error and no receipt, and sends it again; \
                          discard this letter when it has been seen";
            return self.put_back(letter, remark.to_owned()).await;
        };
        let id = failed.record;
        match self.table.states(&[id]).await?.remove(&id) {
            Some(ItemState::Completed) => {
                info!(record.id = %id, "left a record alone that is COMPLETED already");
                return Ok(Redriven::AlreadyCompleted);
            }
            Some(ItemState::Failed { attempt, .. }) if attempt > failed.attempt() => {
                info!(record.id = %id, attempt = failed.attempt(), "left a letter alone that a later run superseded");
                return Ok(Redriven::Superseded);
            }
            Some(ItemState::Failed { discarded: true, .. }) if !forced => {
                info!(record.id = %id, "left a record alone that was discarded");
                return Ok(Redriven::Discarded);
            }
            Some(ItemState::Failed { .. } | ItemState::Received) | None => {}
        }
        if self.policy.exhausted(failed.attempt()) && !forced {
            let remark = format!(
                "parked after {} redrives; find out why it fails, then run it again with --force",
                self.policy.max_attempts
            );
            return self.put_back(DeadLetter { parked: true, ..letter }, remark).await;
        }
        let mut message = match InternalMessage::deserialize(&letter.request) {
            Ok(message) if message.message_id == id => message,
            _ => {
                return self
                    .put_back(letter, "the letter has no message that could run again".to_owned())
                    .await;
            }
        };
        message.redrive = Some(RedriveNote {
            attempt: failed.attempt() + 1,
            redriven_at: self.clock.now(),
            history: PastFailure::history(&letter.history, &letter.failure),
        });
        message.storage_context = StorageContext::default();
        if let Err(error) = self.restore(&mut message).await {
            if error.kind() == ErrorKind::Transient {
                return Err(error);
            }
            let remark = format!("could not be redriven ({}: {error})", error.name.as_str());
            return self.put_back(letter, remark).await;
        }
        // Durable again: a start that fails is made up for by reconcile.
        if let Err(error) = self.workflow.start(&message).await {
            warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the workflow start to reconcile");
        }
        info!(record.id = %id, attempt = message.run().attempt(), stage = "redrive", "redrove record");
        Ok(Redriven::Running(message.run()))
    }

    /// Makes payload and intent durable for the new run.
    async fn restore(&self, message: &mut InternalMessage) -> Result<(), StageError> {
        if let Some(reference) = archive::confirm(&self.archive, message).await? {
            message.archived_at(reference);
            return self.markers.mark(message).await;
        }
        let id = message.message_id;
        let payload = self.payload(message).await?.ok_or_else(|| {
            StageError::new(
                ErrorName::PayloadMissing,
                format!(
                    "redrive record {id}: the payload is in neither archive, cache nor failed-records store"
                ),
            )
        })?;
        let intake = Intake { cache: &self.cache, archive: &self.archive, markers: &self.markers };
        intake.store(message, &Content::from(&payload), None).await.map(drop).map_err(NoStore::into_error)
    }

    /// The payload with the record's digest, from where the failure function kept it, else from the cache.
    async fn payload(&self, message: &InternalMessage) -> Result<Option<Digested>, StageError> {
        let id = message.message_id;
        let is_the_records = |payload: &Digested| payload.sha256 == message.payload.sha256;
        let kept = self.failed_store.fetch(&kept_key(id)).await?.map(Digested::from);
        if let Some(kept) = kept.filter(is_the_records) {
            return Ok(Some(kept));
        }
        Ok(self.cache.payload(id).await?.filter(is_the_records))
    }

    async fn put_back(&self, letter: DeadLetter, remark: String) -> Result<Redriven, StageError> {
        let id = letter.message_id.map(|id| id.to_string());
        self.dead_letters.send(&letter.remarked(remark.clone())).await?;
        warn!(record.id = id, remark, "put a letter back on the dead-letter queue");
        Ok(Redriven::PutBack(remark))
    }
}
