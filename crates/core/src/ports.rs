//! The effects that stages have on the world, one trait each.
//!
//! Every port has a contract suite in `custody-test-support`, which runs against the in-memory double and
//! against the real adapter. All effects may be repeated: a stage that runs again calls them again with the
//! same values.

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
    open_record::{FailureDuty, IndexListing, OpenKind, OpenRecord},
    payload_source::PayloadSource,
    record_id::RecordId,
    stages::failure::{FailedRecord, FailureReceipt},
};

/// The stores and services of one deployment, as stages see them.
pub trait Deployment {
    /// The cache.
    type Cache: PayloadCache;
    /// The archive.
    type Archive: PayloadArchive;
    /// The failed bucket.
    type Failed: FailedStore;
    /// The open-record table.
    type Open: OpenRecords;
    /// The idempotency table.
    type Claims: IdempotencyClaims;
    /// The markers of acceptances that the open-record table could not take.
    type Markers: AcceptanceMarkers;
    /// The record table.
    type Table: RecordTable;
    /// The workflow.
    type Workflow: Workflow;
    /// The failure function.
    type Handler: FailureHandler;
    /// A queue of dead letters.
    type Letters: DeadLetters;
    /// The notification topic.
    type Topic: Notifier;
    /// The clock.
    type Time: Clock;
}

/// The list of accepted records that are not finished.
///
/// Only [`accept`](Self::accept) creates an open record. Every other write requires that the record is open, with the
/// attempt that the caller knows.
pub trait OpenRecords: Send + Sync {
    /// Accepts a record: puts its open record unless there is one, together with the claim of its idempotency key where
    /// there is one.
    ///
    /// `Ok(Accepted)`: the record is open, by this call or by an earlier one of the same record whose reply was lost.
    /// `Ok(Held)`: another record holds the key; nothing was written. `Err`: the record may or may not be open.
    fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> impl Future<Output = Result<Acceptance, StageError>> + Send;

    /// The open record, read consistently; `None` where the record is not open.
    fn find(&self, id: RecordId) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// The open records of one kind as the index knows them, at most `limit`. The index is a hint: it may be late.
    fn list(
        &self,
        kind: OpenKind,
        limit: usize,
    ) -> impl Future<Output = Result<IndexListing, StageError>> + Send;

    /// Takes the turn to act on a record: replaces what `seen` says of looks and starts by what `turn` says, where nobody
    /// else has since. Whether the turn was taken.
    fn take_turn(
        &self,
        seen: &OpenRecord,
        turn: Turn,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Notes that the payload of an attempt is in no store. The time of the first such note, this one's where there was
    /// none; `None` where the attempt is not open any more. The record is looked at again at `look_at`.
    fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> impl Future<Output = Result<Option<Timestamp>, StageError>> + Send;

    /// Puts an attempt to failed, unless it has failed before. The open record as it is then: `failed`, or what was stored
    /// first; `None` where the attempt is not open any more.
    fn fail(
        &self,
        failed: &OpenRecord,
    ) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Notes which duties of a failed attempt are still owed, and when to look again. An attempt that is not open any more
    /// owes nothing.
    fn owe(
        &self,
        attempt: Attempt,
        owed: &[FailureDuty],
        look_at: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Begins the attempt of `next` in the place of the failed one before it. The open record as it is then: `next`, or what
    /// somebody else began before; `None` where the record is not open.
    fn redrive(
        &self,
        next: &OpenRecord,
    ) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Closes a record whose current attempt is this one. A record that is not open is closed already; one that is at a
    /// later attempt stays open.
    fn close(&self, attempt: Attempt) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// What an acceptance came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// The record is accepted.
    Accepted,
    /// The idempotency key stands for another record.
    Held(Claim),
}

/// What taking a turn changes in an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When the record is looked at next.
    pub look_at: Timestamp,
    /// When a further start is counted with the turn: now.
    pub start: Option<Timestamp>,
    /// Whether the payload is in no store, as far as could be seen. Otherwise a note that it was missing is void: only what is
    /// missing for longer than a failover takes, without a break, is lost.
    pub is_missing: bool,
}

/// What idempotency keys stand for.
pub trait IdempotencyClaims: Send + Sync {
    /// The claim of a key, read consistently, expired or not.
    fn find(&self, key: &IdempotencyKey) -> impl Future<Output = Result<Option<Claim>, StageError>> + Send;

    /// Lets the claim of a record live until `until` at least. A claim that is gone, or another record's, stays as it is.
    fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The durable word that a record was accepted while the open-record table was away.
pub trait AcceptanceMarkers: Send + Sync {
    /// Stores a marker with the open record. A marker that is there stays.
    fn mark(&self, record: &OpenRecord) -> impl Future<Output = Result<(), StageError>> + Send;

    /// The attempts that have markers, at most `limit`.
    fn list(&self, limit: usize) -> impl Future<Output = Result<Vec<Attempt>, StageError>> + Send;

    /// The open record in a marker; `None` where there is no marker.
    fn find(&self, attempt: Attempt) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Removes a marker. One that is not there is removed already.
    fn clear(&self, attempt: Attempt) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The permanent store of payloads.
pub trait PayloadArchive: Send + Sync {
    /// Stores a payload under `key`, unless it is there. `now` is kept with the object. A payload whose source breaks off is
    /// not stored: the error is transient.
    ///
    /// `Ok`: the object under `key` has exactly the described digest, verified by the store; an object that was
    /// there with the same digest counts, and its own time is the answer. An object with another digest is an
    /// `ArchiveConflict` and stays. Bytes that have not the described digest when they arrive are `PayloadCorrupted`.
    fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> impl Future<Output = Result<ArchivedObject, StageError>> + Send;

    /// The object under `key`; `None` is definite absence.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<ArchivedObject>, StageError>> + Send;
}

/// An object that the archive has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    /// Where the object is.
    pub reference: S3Reference,
    /// The digest, as the store knows it.
    pub sha256: Sha256,
    /// The size.
    pub size_bytes: u64,
    /// When the object was stored.
    pub archived_at: Timestamp,
}

/// The index of all records.
pub trait RecordTable: Send + Sync {
    /// Writes the item of a record in state `RECEIVED`, unless it is there.
    ///
    /// `Ok`: the item exists and is this record's; one that was there with the same digest counts, whatever
    /// its state, and its own time is the answer. An item with another digest is a `MetadataConflict` and stays.
    fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> impl Future<Output = Result<StoredMetadata, StageError>> + Send;

    /// Puts the record's item into state `COMPLETED` with its final references, `message.storage_context`. An item
    /// that is `COMPLETED` already stays as it is, and its own times are the answer. `ItemMissing` when there is no item
    /// of this record.
    fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> impl Future<Output = Result<CompletionTimes, StageError>> + Send;

    /// Puts the record's item into state `FAILED`, writing the item where there is none. A `COMPLETED` item
    /// stays as it is, and so does one that tells how this or a later attempt failed. An item of another payload is a
    /// `MetadataConflict` and stays.
    fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> impl Future<Output = Result<FailedItem, StageError>> + Send;

    /// Notes in a `FAILED` item that a person has discarded the record. Whether the item tells of this attempt, or an
    /// earlier one, and is `FAILED`.
    fn discard(
        &self,
        attempt: Attempt,
        discard: &Discard,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// The states of these records, as far as they have items, read consistently. At most 100 records at once.
    fn states(
        &self,
        records: &[RecordId],
    ) -> impl Future<Output = Result<BTreeMap<RecordId, ItemState>, StageError>> + Send;
}

/// The record's item in the table, as the metadata stage left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMetadata {
    /// Where the item is.
    pub reference: MetaDataReference,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// Who discarded a record, when, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Discard {
    /// The principal.
    pub by: String,
    /// The time.
    pub at: Timestamp,
    /// The reason, in the person's words.
    pub reason: String,
}

/// Where the item of a record reports that the record is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// The record is on its way.
    Received,
    /// The record is complete.
    Completed(CompletedItem),
    /// The record has failed, at least for now.
    Failed {
        /// The number of the attempt that failed.
        attempt: u32,
        /// Whether an operator has decided to leave it so.
        discarded: bool,
    },
}

/// What the item of a completed record knows that its announcements report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedItem {
    /// Where the payload is.
    pub s3_reference: Option<S3Reference>,
    /// Where the item is.
    pub meta_data_reference: Option<MetaDataReference>,
    /// When the metadata was stored.
    pub stored_at: Timestamp,
    /// When the parts of the record were done.
    pub times: CompletionTimes,
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
    /// A later attempt of the record has failed since; the item tells how.
    Superseded,
}

/// The workflow that takes an accepted record to its end.
pub trait Workflow: Send + Sync {
    /// Whether a start under a name that was used is recognized (`STANDARD`), or makes a further execution (`EXPRESS`).
    fn recognizes_names(&self) -> bool;

    /// Starts execution number `start` of the message's attempt.
    fn start(
        &self,
        message: &InternalMessage,
        start: u32,
    ) -> impl Future<Output = Result<Start, StageError>> + Send;
}

/// What [`Workflow::start`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No execution of the name; there is one now.
    Started,
    /// An execution under way.
    Running,
    /// An execution that has ended.
    Ended,
}

/// The failure function, as reconcile sees it.
pub trait FailureHandler: Send + Sync {
    /// Has the failure of a record handled.
    fn handle(
        &self,
        failed: &FailedRecord,
    ) -> impl Future<Output = Result<FailureReceipt, StageError>> + Send;
}

/// The failed bucket: payloads of failed records, and rejected requests.
pub trait FailedStore: Send + Sync {
    /// Keeps `content` under `key`. Repeating the call is harmless: equal content under an equal key.
    fn keep(&self, key: &str, content: Bytes)
    -> impl Future<Output = Result<S3Reference, StageError>> + Send;

    /// The content under `key`; `None` is definite absence.
    fn fetch(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, StageError>> + Send;

    /// The content under `key`, to be read piece by piece; `None` is definite absence.
    fn source(&self, key: &str) -> impl Future<Output = Result<Option<PayloadSource>, StageError>> + Send;

    /// Where the content under `key` is; `None` is definite absence.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<S3Reference>, StageError>> + Send;
}

/// A queue of dead letters: the dead-letter queue, or the queue of rejected requests.
pub trait DeadLetters: Send + Sync {
    /// Puts a message on the queue. Repeating the call puts it there again; readers go by record and attempt.
    fn send(&self, letter: &DeadLetter) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The notification topic.
pub trait Notifier: Send + Sync {
    /// Publishes a notification. Repeating the call publishes it again under the same CloudEvents id.
    fn publish(&self, notification: &Notification) -> impl Future<Output = Result<(), StageError>> + Send;
}
