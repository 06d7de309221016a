//! The upload table.

use std::future::Future;

use crate::{
    clock::Timestamp, error::StageError, idempotency::IdempotencyKey, record_id::RecordId, upload::Upload,
};

/// The store of uploads that were begun. An upload expires by itself.
pub trait Uploads: Send + Sync {
    /// Stores a new upload, unless its idempotency key has an upload that has not expired. Returns the stored upload: `upload`, or
    /// the upload of the key.
    ///
    /// A repeated call for the same upload returns it. `Err`: the upload may or may not be stored.
    fn begin(
        &self,
        upload: &Upload,
        now: Timestamp,
    ) -> impl Future<Output = Result<Upload, StageError>> + Send;

    /// Returns the upload that an idempotency key has now, read consistently. `None` if it has none that has not expired.
    fn of_key(
        &self,
        key: &IdempotencyKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Upload>, StageError>> + Send;

    /// Frees the idempotency key of an upload that cannot be completed, so that the producer can send the record again under the
    /// same key. Success, without an effect, if the key has another upload.
    fn abandon(&self, upload: &Upload) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Takes the right to copy the payload of an upload until `until`, unless another completion has it at `now`. Returns whether it
    /// was taken. The right saves work; nothing is wrong without it.
    fn lease(
        &self,
        id: RecordId,
        until: Timestamp,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Gives the right back that was taken until `until`. Success, without an effect, if another completion has taken it since.
    fn end_lease(
        &self,
        id: RecordId,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Returns the upload with this id, read consistently. An expired upload may be returned too.
    fn find(&self, id: RecordId) -> impl Future<Output = Result<Option<Upload>, StageError>> + Send;
}
