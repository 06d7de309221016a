//! The effects that stages have on the world, one trait each.
//!
//! Every port has a contract suite in `custody-test-support`, which runs against the in-memory double and
//! against the real adapter. All effects may be repeated: a stage that runs again calls them again with the
//! same values.

pub mod payload_cache;

use std::{collections::BTreeMap, future::Future, time::Duration};

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    content::{Content, Digested},
    dead_letter::{DeadLetter, FailureSummary},
    digest::Sha256,
    error::StageError,
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, RedisReference, S3Reference},
    notification::Notification,
    record_id::RecordId,
    rejected_request::RejectedRequest,
    run::Run,
    stages::failure::{FailedRecord, FailureReceipt},
};

/// The short-lived store that takes a record before it is acknowledged.
pub trait PayloadCache: Send + Sync {
    /// Where this cache keeps, or would keep, a record.
    fn reference(&self, id: RecordId) -> RedisReference;

    /// Stores payload, message and the pending entry together. What the stored message says of the payload is what the
    /// payload is: an implementation reads it once, and takes [`InternalMessage::with_payload`] then.
    ///
    /// `Ok`: all three are stored and the wanted number of replicas has confirmed them. `Err`: they may or
    /// may not be stored; nothing may be promised on them. Nothing of it expires before the run is settled. With a `key`,
    /// the claim of the key says afterwards that its record is stored. A later run of the record stays as it is.
    fn put(
        &self,
        message: &InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// The payload of a record; `None` when this cache does not have it.
    fn payload(&self, id: RecordId) -> impl Future<Output = Result<Option<Digested>, StageError>> + Send;

    /// Ends a run's life here: its pending entry goes at once, and the payload after a grace time unless a later run
    /// of the record needs it. A run that is not here is settled already.
    fn settle(&self, run: Run) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Gives payloads that would expire another day.
    fn extend(&self, records: &[RecordId]) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// What idempotency keys stand for, for a day or longer.
pub trait IdempotencyClaims: Send + Sync {
    /// Makes `claim` under `key`, unless there is one. The claim that holds now: this one, or the one that was there.
    fn claim(
        &self,
        key: &IdempotencyKey,
        claim: &Claim,
    ) -> impl Future<Output = Result<Claim, StageError>> + Send;

    /// The claim under `key`, where there is one.
    fn find(&self, key: &IdempotencyKey) -> impl Future<Output = Result<Option<Claim>, StageError>> + Send;

    /// Notes that the record of a claim is stored.
    fn confirm(
        &self,
        key: &IdempotencyKey,
        claim: &Claim,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// A run that has not reached its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRun {
    /// The run.
    pub run: Run,
    /// When it became pending.
    pub since: Timestamp,
}

/// The runs that a store knows as pending: entries of the cache, or markers.
pub trait PendingRuns: Send + Sync {
    /// The pending runs, up to `limit` of them.
    fn pending(&self, limit: usize) -> impl Future<Output = Result<Vec<PendingRun>, StageError>> + Send;

    /// The message of a pending run; `None` where it is not here any more. The message may be that of a later run of
    /// the record, which then has taken this one's place.
    fn message(&self, run: Run) -> impl Future<Output = Result<Option<InternalMessage>, StageError>> + Send;
}

/// The permanent store of payloads.
pub trait PayloadArchive: Send + Sync {
    /// Stores a payload under `key`, unless it is there.
    ///
    /// `Ok`: the object under `key` has exactly the described digest, verified by the store; an object that was
    /// there with the same digest counts. An object with another digest is an `ArchiveConflict` and stays.
    fn store(
        &self,
        key: &str,
        payload: Bytes,
        descriptor: &PayloadDescriptor,
    ) -> impl Future<Output = Result<S3Reference, StageError>> + Send;

    /// The digest of the object under `key`, `None` when there is none.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<ArchivedObject>, StageError>> + Send;
}

/// An object that the archive has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    /// Where it is.
    pub reference: S3Reference,
    /// Its digest, as the store knows it.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// The durable word that a record, stored in the archive because the cache could not take it, is not done yet.
pub trait PendingMarkers: Send + Sync {
    /// Stores a marker with the message. A marker that is there stays.
    fn mark(&self, message: &InternalMessage) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Removes the marker of a run. A marker that is not there is removed already.
    fn clear(&self, run: Run) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The index of all records.
pub trait RecordTable: Send + Sync {
    /// Writes the item of a record in state `RECEIVED`, unless it is there.
    ///
    /// `Ok`: the item exists and is this record's; one that was there with the same digest counts, whatever
    /// its state. An item with another digest is a `MetadataConflict` and stays.
    fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> impl Future<Output = Result<MetaDataReference, StageError>> + Send;

    /// Puts the record's item into state `COMPLETED` with its final references, `message.storage_context`. An item
    /// that is `COMPLETED` already stays as it is, and its own times are the answer. `ItemMissing` when there is no item
    /// of this record.
    fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> impl Future<Output = Result<CompletionTimes, StageError>> + Send;

    /// Puts the record's item into state `FAILED`, writing the item where there is none. A `COMPLETED` item
    /// stays as it is, and so does one that says how a later run failed. An item of another payload is a
    /// `MetadataConflict` and stays.
    fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> impl Future<Output = Result<FailedItem, StageError>> + Send;

    /// The states of these records, as far as they have items. At most 100 records at once.
    fn states(
        &self,
        records: &[RecordId],
    ) -> impl Future<Output = Result<BTreeMap<RecordId, ItemState>, StageError>> + Send;
}

/// Where the item of a record says that the record is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// On its way.
    Received,
    /// At its good end.
    Completed,
    /// At its bad end, at least for now.
    Failed {
        /// The number of the run that failed.
        attempt: u32,
        /// Whether an operator has decided to leave it so.
        discarded: bool,
    },
}

/// When the parts of a completed record were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionTimes {
    /// The payload was archived.
    pub archived_at: Timestamp,
    /// The record was completed.
    pub completed_at: Timestamp,
}

/// What [`RecordTable::fail`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedItem {
    /// The item is `FAILED`.
    Marked,
    /// The record was `COMPLETED` before; its item still is.
    AlreadyCompleted,
    /// A later run of the record has failed since; the item says how.
    Superseded,
}

/// The workflow that takes an acknowledged record to its end.
pub trait Workflow: Send + Sync {
    /// Starts the one execution of the message's run. Repeating the call is harmless, and a cheap way to ask whether
    /// there is one.
    fn start(&self, message: &InternalMessage) -> impl Future<Output = Result<Start, StageError>> + Send;

    /// What became of a run's execution; `None` where there is none. Services answer this question only so often.
    fn outcome(&self, run: Run) -> impl Future<Output = Result<Option<Outcome>, StageError>> + Send;
}

/// What [`Workflow::start`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No execution; there is one now.
    Started,
    /// An execution under way.
    Running,
    /// An execution, perhaps one that has ended.
    Existed,
}

/// What became of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is under way.
    Running,
    /// The record is complete and announced.
    Succeeded,
    /// It failed, took too long, or was stopped.
    Ended {
        /// The execution.
        execution_arn: String,
        /// The name it ended under; `States.Timeout` or `Aborted` where it did not come to say one.
        error: String,
        /// What it said of it.
        cause: String,
    },
}

/// The failure function, as reconcile sees it.
pub trait FailureHandler: Send + Sync {
    /// Has the failure of a record handled.
    fn handle(
        &self,
        failed: &FailedRecord,
    ) -> impl Future<Output = Result<FailureReceipt, StageError>> + Send;
}

/// The failure function, as ingest sees it.
pub trait Salvage: Send + Sync {
    /// Hands over a request that could not be taken. `Ok`: its remains are stored and explained.
    fn salvage(&self, request: &RejectedRequest<'_>) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The store of salvaged requests and of the payloads of failed records.
pub trait FailedStore: Send + Sync {
    /// Keeps `content` under `key`. Repeating the call is harmless: equal content under an equal key.
    fn keep(&self, key: &str, content: Bytes)
    -> impl Future<Output = Result<S3Reference, StageError>> + Send;

    /// What is kept under `key`.
    fn fetch(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, StageError>> + Send;
}

/// The dead-letter queue.
pub trait DeadLetters: Send + Sync {
    /// Puts a message on the queue. Repeating the call puts it there again; readers go by record and stage.
    fn send(&self, letter: &DeadLetter) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The redrive queue.
pub trait Redrives: Send + Sync {
    /// Has the record of a letter run again after `delay`, at most [`crate::backoff::MAX_DELAY`]. Repeating the call is
    /// harmless: a run is started once.
    fn schedule(
        &self,
        letter: &DeadLetter,
        delay: Duration,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The notification topic.
pub trait Notifier: Send + Sync {
    /// Publishes a notification. Repeating the call publishes it again under the same CloudEvents id.
    fn publish(&self, notification: &Notification) -> impl Future<Output = Result<(), StageError>> + Send;
}
