//! The effects that stages have on the world, one trait each.
//!
//! Every port has a contract suite in `custody-test-support`, which runs against the in-memory double and
//! against the real adapter. All effects may be repeated: a stage that runs again calls them again with the
//! same values.

use std::future::Future;

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    dead_letter::{DeadLetter, FailureSummary},
    digest::Sha256,
    error::StageError,
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, RedisReference, S3Reference},
    notification::Notification,
    record_id::RecordId,
    rejected_request::RejectedRequest,
};

/// The short-lived store that takes a record before it is acknowledged.
pub trait PayloadCache: Send + Sync {
    /// Where this cache keeps, or would keep, a record.
    fn reference(&self, id: RecordId) -> RedisReference;

    /// Stores payload, message and the pending entry together.
    ///
    /// `Ok`: all three are stored and the wanted number of replicas has confirmed them. `Err`: they may or
    /// may not be stored; nothing may be promised on them.
    fn put(
        &self,
        message: &InternalMessage,
        payload: &[u8],
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// The payload of a record; `None` when this cache does not have it.
    fn payload(&self, id: RecordId) -> impl Future<Output = Result<Option<Bytes>, StageError>> + Send;

    /// Ends the record's life here: the pending entry goes at once, the payload after a grace time. A record
    /// that is not here is settled already.
    fn settle(&self, id: RecordId) -> impl Future<Output = Result<(), StageError>> + Send;
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

    /// Removes the marker. A marker that is not there is removed already.
    fn clear(&self, id: RecordId) -> impl Future<Output = Result<(), StageError>> + Send;
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
    /// that is `COMPLETED` already stays as it is. `ItemMissing` when there is no item of this record.
    fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Puts the record's item into state `FAILED`, writing the item where there is none. A `COMPLETED` item
    /// stays as it is. An item of another payload is a `MetadataConflict` and stays.
    fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> impl Future<Output = Result<FailedItem, StageError>> + Send;
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
}

/// The workflow that takes an acknowledged record to its end.
pub trait Workflow: Send + Sync {
    /// Starts the record's one execution. An execution that exists counts as started.
    fn start(&self, message: &InternalMessage) -> impl Future<Output = Result<(), StageError>> + Send;
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
}

/// The dead-letter queue.
pub trait DeadLetters: Send + Sync {
    /// Puts a message on the queue. Repeating the call puts it there again; readers go by record and stage.
    fn send(&self, letter: &DeadLetter) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The notification topic.
pub trait Notifier: Send + Sync {
    /// Publishes a notification. Repeating the call publishes it again under the same CloudEvents id.
    fn publish(&self, notification: &Notification) -> impl Future<Output = Result<(), StageError>> + Send;
}
