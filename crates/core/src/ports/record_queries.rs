//! Questions to the record table and its indexes.

use std::future::Future;

use crate::{
    error::StageError,
    record_id::RecordId,
    record_query::{PageRequest, RecordItem, RecordPage},
};

/// The record table, for reads only.
pub trait RecordQueries: Send + Sync {
    /// Returns the item of a record, read consistently; `None` if the record has no item.
    fn item(&self, id: RecordId) -> impl Future<Output = Result<Option<RecordItem>, StageError>> + Send;

    /// Returns a page of the records that match, newest first. A record whose item was written a moment ago may be missing.
    /// Pages that follow one another by `after` contain each record once, also while records arrive.
    fn page(&self, request: &PageRequest) -> impl Future<Output = Result<RecordPage, StageError>> + Send;
}
