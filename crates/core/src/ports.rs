//! Ports: one trait for each kind of effect that stages have on stores and services.
//!
//! Every port has a contract suite in `custody-test-support`, which runs against the in-memory double and against the
//! real adapter. Every call may be repeated: a stage that runs again makes the same calls with the same values.

pub mod payload_cache;

use std::{collections::BTreeMap, future::Future};

use bytes::Bytes;

pub use self::payload_cache::PayloadCache;
use crate::{
    attempt::Attempt,
    clock::{Clock, Timestamp},
    dead_letter::{DeadLetter, FailureSummary},
    digest::Sha256,
    error::StageError,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, S3Reference},
    notification::Notification,
    open_record::{FailureStep, IndexListing, OpenKind, OpenRecord},
    payload_source::PayloadSource,
    record_id::RecordId,
    stages::failure::{FailedRecord, FailureReceipt},
};

/// The stores and services of one deployment, as stages see them.
pub trait Deployment {
    /// The payload cache.
    type Cache: PayloadCache;
    /// The archive.
    type Archive: PayloadArchive;
    /// The failed bucket.
    type Failed: FailedStore;
    /// The open-record table.
    type Open: OpenRecords;
    /// The idempotency table.
    type Claims: IdempotencyClaims;
    /// The acceptance markers, which ingest writes when the open-record table cannot take an acceptance.
    type Markers: AcceptanceMarkers;
    /// The record table.
    type Table: RecordTable;
    /// The workflow.
    type Workflow: Workflow;
    /// The failure function, which reconcile invokes.
    type Handler: FailureHandler;
    /// A queue of dead letters.
    type DeadLetterQueue: DeadLetters;
    /// The notification topic.
    type Topic: Notifier;
    /// The clock.
    type Time: Clock;
}

/// The store of open records: accepted records that are not finished.
///
/// Only [`accept`](Self::accept) creates an open record. Every other write requires that the record is open, at the
/// attempt that the caller names.
pub trait OpenRecords: Send + Sync {
    /// Accepts a record: writes its open record unless the record is open already, together with the claim of its
    /// idempotency key if it has one.
    ///
    /// `Ok(Accepted)`: the record is open, by this call or by an earlier call for the same record whose reply was lost.
    /// `Ok(Held)`: another record holds the key, and nothing was written. `Err`: the record may or may not be open.
    fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> impl Future<Output = Result<Acceptance, StageError>> + Send;

    /// Returns the open record with a consistent read, or `None` if the record is not open.
    fn find(&self, id: RecordId) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Lists at most `limit` open records of one kind from the index. The index is a hint: its entries may be out of
    /// date.
    fn list(
        &self,
        kind: OpenKind,
        limit: usize,
    ) -> impl Future<Output = Result<IndexListing, StageError>> + Send;

    /// Takes the turn to act on a record: moves the next look, counts the look, and counts a start if `turn` has one,
    /// unless another caller has changed the record since it was read as `seen`. Returns whether this call took the
    /// turn.
    fn take_turn(
        &self,
        seen: &OpenRecord,
        turn: Turn,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Notes that the payload of an attempt is in no store, and sets the next look to `look_at`. Returns the time of
    /// the first such note, which is `now` if there was none before; `None` if the attempt is no longer open.
    fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> impl Future<Output = Result<Option<Timestamp>, StageError>> + Send;

    /// Changes the state of an attempt to failed, unless it has failed before. Returns the stored open record:
    /// `failed`, or the failure that was stored first; `None` if the attempt is no longer open.
    fn fail(
        &self,
        failed: &OpenRecord,
    ) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Stores which steps of a failed attempt are still pending, and sets the next look to `look_at`. Succeeds without
    /// an effect if the attempt is no longer open.
    fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Replaces a failed attempt by `next`, the attempt that follows it. Returns the stored open record: `next`, or
    /// what another caller stored first; `None` if the record is not open.
    fn redrive(
        &self,
        next: &OpenRecord,
    ) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Closes a record whose current attempt is `attempt`. Succeeds without an effect if the record is closed already.
    /// A record at a later attempt stays open.
    fn close(&self, attempt: Attempt) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The result of [`OpenRecords::accept`].
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// The record is open.
    Accepted,
    /// Another record holds the idempotency key; this is its claim.
    KeyTaken(Claim),
}

/// The changes that taking a turn makes to an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When reconcile looks at the record next.
    pub look_at: Timestamp,
    /// The time of a further start, which is counted together with the turn; `None` if the turn counts no start.
    pub start: Option<Timestamp>,
    /// Whether this look found the payload in no store. If `false`, taking the turn clears an earlier note that the
    /// payload was missing: a payload is lost only if it is missing without interruption for longer than a failover
    /// takes.
    pub is_missing: bool,
}

/// The store of claims: the record that each idempotency key stands for.
pub trait IdempotencyClaims: Send + Sync {
    /// Returns the claim of a key with a consistent read, whether it has expired or not.
    fn find(&self, key: &IdempotencyKey) -> impl Future<Output = Result<Option<Claim>, StageError>> + Send;

    /// Extends the claim of a record until `until` at least. Changes nothing if the claim is gone or belongs to another
    /// record.
    fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The store of acceptance markers. A marker durably proves that a record was accepted while the open-record table was
/// not available.
pub trait AcceptanceMarkers: Send + Sync {
    /// Stores a marker with the open record in it. An existing marker stays unchanged.
    fn mark(&self, record: &OpenRecord) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Lists the attempts that have markers, at most `limit`.
    fn list(&self, limit: usize) -> impl Future<Output = Result<Vec<Attempt>, StageError>> + Send;

    /// Returns the open record in a marker, or `None` if there is no marker.
    fn find(&self, attempt: Attempt) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Removes a marker. Succeeds if the marker does not exist.
    fn clear(&self, attempt: Attempt) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The archive: the permanent store of payloads.
pub trait PayloadArchive: Send + Sync {
    /// Stores a payload under `key`, unless an object exists there. The object carries `now` as its time. If reading
    /// the payload fails, nothing is stored, and the error is transient.
    ///
    /// `Ok`: the object under `key` has exactly the described digest, verified by the store. An existing object with
    /// the same digest is a success, and its own time is returned. An existing object with another digest is an
    /// `ArchiveConflict` and stays unchanged. Bytes that arrive with another digest than the described one are
    /// `PayloadCorrupted`.
    fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> impl Future<Output = Result<ArchivedObject, StageError>> + Send;

    /// Returns the object under `key`. `None` is definite absence: the store itself answered that it has no such
    /// object.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<ArchivedObject>, StageError>> + Send;
}

/// An object in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    pub reference: S3Reference,
    /// The digest that the store reports.
    pub sha256: Sha256,
    pub size_bytes: u64,
    /// When the object was stored.
    pub archived_at: Timestamp,
}

/// The record table: the index of all records, with one item for each.
pub trait RecordTable: Send + Sync {
    /// Writes the record's item in state `RECEIVED`, unless the item exists.
    ///
    /// `Ok`: the item exists and belongs to this record. An existing item with the same digest is a success, whatever
    /// its state, and its own time is returned. An existing item with another digest is a `MetadataConflict` and stays
    /// unchanged.
    fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> impl Future<Output = Result<StoredMetadata, StageError>> + Send;

    /// Changes the record's item to state `COMPLETED` with its final references, `message.storage_context`. An item
    /// that is `COMPLETED` already stays unchanged, and its own times are returned. `ItemMissing` if the record has no
    /// item.
    fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> impl Future<Output = Result<CompletionTimes, StageError>> + Send;

    /// Changes the record's item to state `FAILED`, or writes the item if there is none. A `COMPLETED` item stays
    /// unchanged, and so does an item that describes the failure of this or a later attempt. An item of another payload
    /// is a `MetadataConflict` and stays unchanged.
    fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> impl Future<Output = Result<FailedItem, StageError>> + Send;

    /// Notes in a `FAILED` item that an operator has discarded the record. Returns whether the item is `FAILED`, at
    /// this attempt or an earlier one.
    fn discard(
        &self,
        attempt: Attempt,
        discard: &Discard,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Returns the states of those records that have items, with consistent reads. The caller passes at most 100
    /// records.
    fn states(
        &self,
        records: &[RecordId],
    ) -> impl Future<Output = Result<BTreeMap<RecordId, ItemState>, StageError>> + Send;
}

/// The location and time of a record's item, as the metadata stage stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMetadata {
    pub reference: MetaDataReference,
    pub stored_at: Timestamp,
}

/// The decision of an operator to discard a record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Discard {
    /// The principal of the operator.
    pub by: String,
    /// When the operator discarded the record.
    pub at: Timestamp,
    /// The reason that the operator gave.
    pub reason: String,
}

/// The state of a record, as its item in the record table reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// The record is in progress.
    Received,
    /// The record is complete.
    Completed(CompletedItem),
    /// An attempt of the record has failed. The record may be redriven later.
    Failed {
        /// The number of the attempt that failed.
        attempt: u32,
        /// Whether an operator has discarded the record.
        discarded: bool,
    },
}

/// The values of a completed record's item that its announcements report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedItem {
    /// Where the payload is archived.
    pub s3_reference: Option<S3Reference>,
    /// Where the record's item is stored.
    pub meta_data_reference: Option<MetaDataReference>,
    /// When the metadata was stored.
    pub stored_at: Timestamp,
    /// When the payload was archived and the record was completed.
    pub times: CompletionTimes,
}

/// The times of a completed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionTimes {
    /// When the payload was archived.
    pub archived_at: Timestamp,
    /// When the record was completed.
    pub completed_at: Timestamp,
}

/// The result of [`RecordTable::fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedItem {
    /// The item is `FAILED`.
    Failed,
    /// The record was `COMPLETED` before; its item stays unchanged.
    AlreadyCompleted,
    /// A later attempt of the record has failed; the item describes that failure.
    Superseded,
}

/// The workflow that processes accepted records.
pub trait Workflow: Send + Sync {
    /// Whether the workflow recognizes an execution name that was used before (`STANDARD`), or makes a further
    /// execution under that name (`EXPRESS`).
    fn recognizes_names(&self) -> bool;

    /// Starts the execution with number `start` of the message's attempt.
    fn start(
        &self,
        message: &InternalMessage,
        start: u32,
    ) -> impl Future<Output = Result<Start, StageError>> + Send;
}

/// The result of [`Workflow::start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No execution had this name; the call started one.
    Started,
    /// An execution with this name is running.
    Running,
    /// An execution with this name has ended.
    Ended,
}

/// The failure function, as reconcile invokes it.
pub trait FailureHandler: Send + Sync {
    /// Invokes the failure function for a record.
    fn handle(
        &self,
        failed: &FailedRecord,
    ) -> impl Future<Output = Result<FailureReceipt, StageError>> + Send;
}

/// The failed bucket: payloads of failed records, and rejected requests.
pub trait FailedStore: Send + Sync {
    /// Preserves `content` under `key`. The call may be repeated, because equal keys come with equal content.
    fn preserve(
        &self,
        key: &str,
        content: Bytes,
    ) -> impl Future<Output = Result<S3Reference, StageError>> + Send;

    /// Returns the content under `key`. `None` is definite absence.
    fn fetch(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, StageError>> + Send;

    /// Returns a source that reads the content under `key` piece by piece. `None` is definite absence.
    fn source(&self, key: &str) -> impl Future<Output = Result<Option<PayloadSource>, StageError>> + Send;

    /// Returns the location of the content under `key`. `None` is definite absence.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<S3Reference>, StageError>> + Send;
}

/// A queue of dead letters: the dead-letter queue, or the queue of rejected requests.
pub trait DeadLetters: Send + Sync {
    /// Sends a dead letter to the queue. Repeating the call sends it again; readers identify a dead letter by its
    /// record and attempt.
    fn send(&self, letter: &DeadLetter) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The notification topic.
pub trait Notifier: Send + Sync {
    /// Publishes a notification. Repeating the call publishes it again with the same CloudEvents id.
    fn publish(&self, notification: &Notification) -> impl Future<Output = Result<(), StageError>> + Send;
}
