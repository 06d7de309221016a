//! The failed bucket.

use std::future::Future;

use bytes::Bytes;

use crate::{error::StageError, message::S3Reference, payload_source::PayloadSource};

/// The failed bucket: payloads of failed records, and rejected requests.
pub trait FailedStore: Send + Sync {
    /// Preserves `content` under `key`. An existing object stays unchanged: keys derive from ids and digests, so it has
    /// the same content. `Err`: the content may or may not be stored.
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
