//! The upload table.

use std::future::Future;

use crate::{clock::Timestamp, error::StageError, record_id::RecordId, upload::Upload};

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

    /// Returns the upload with this id, read consistently. An expired upload may be returned too.
    fn find(&self, id: RecordId) -> impl Future<Output = Result<Option<Upload>, StageError>> + Send;
}
