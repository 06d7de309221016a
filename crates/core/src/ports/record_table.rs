//! The port of the record table, which holds one item per record: its metadata and its status.

use std::{collections::BTreeMap, future::Future};

use crate::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::StageError,
    message::{InternalMessage, MetadataReference, S3Reference},
    record_id::RecordId,
};

/// The record table, with one item for each record.
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

    /// Notes in a `FAILED` item that an operator has discarded the record. Returns `false`, and changes nothing, unless
    /// the item is `FAILED` at this attempt or an earlier one, and notes no discard of this attempt or a later one: a
    /// note that subscribers may have been told of stays as it is.
    fn discard(
        &self,
        attempt: Attempt,
        discard: &Discard,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Notes in an item when `custody rebuild` made it again. A time that is noted already stays. `ItemMissing` if the record
    /// has no item.
    fn note_rebuilt(
        &self,
        id: RecordId,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Returns the states of those records that have items, with consistent reads.
    fn states(
        &self,
        records: &[RecordId],
    ) -> impl Future<Output = Result<BTreeMap<RecordId, ItemState>, StageError>> + Send;
}

/// The location and time of a record's item, as the metadata stage stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMetadata {
    pub reference: MetadataReference,
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

/// A discard as the record's item notes it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NotedDiscard {
    /// The number of the attempt that was discarded.
    pub attempt: u32,
    /// Who discarded it, when and why.
    #[serde(flatten)]
    pub discard: Discard,
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
        /// The discard of this attempt or a later one; `None` while nobody has discarded the record. A discard of an
        /// earlier attempt decides nothing about this failure.
        discarded: Option<NotedDiscard>,
    },
}

impl ItemState {
    /// Returns whether an operator has discarded the record, and no later attempt has failed since.
    pub fn is_discarded(&self) -> bool {
        matches!(self, Self::Failed { discarded: Some(_), .. })
    }

    /// Returns the discard of this attempt; `None` if the item does not report that this attempt failed, or if nobody
    /// has discarded it.
    pub fn discard_of(&self, attempt: u32) -> Option<&NotedDiscard> {
        match self {
            Self::Failed { attempt: failed, discarded } if *failed == attempt => discarded.as_ref(),
            Self::Failed { .. } | Self::Received | Self::Completed(_) => None,
        }
    }
}

/// The values of a completed record's item that its announcements report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedItem {
    /// Where the payload is archived.
    pub s3_reference: Option<S3Reference>,
    /// Where the record's item is stored.
    pub metadata_reference: Option<MetadataReference>,
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
