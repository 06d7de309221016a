//! Acceptance markers.

use std::future::Future;

use crate::{attempt::Attempt, error::StageError, open_record::OpenRecord};

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
