//! The port of the payload cache, which stores a payload before its record is accepted.

use std::future::Future;

use bytes::Bytes;

use crate::{
    error::StageError, message::RedisReference, payload_source::PayloadSource, receipt::Durability,
    record_id::RecordId,
};

/// The short-lived store of payloads, one entry per record. Every call may be repeated.
///
/// *Absence is an answer, not a failure.* `None` and `false` mean that the store itself reported that it has no such
/// payload. A store that cannot be asked, or that cannot be sure, returns a `CacheUnavailable` error. The verdict that
/// a payload is lost relies on this difference.
pub trait PayloadCache: Send + Sync {
    /// Returns the location where this cache stores the payload of a record, whether or not it has the payload now. The
    /// reference names the cluster, not one of its nodes, because payloads move between nodes.
    fn reference(&self, id: RecordId) -> RedisReference;

    /// Returns the durability of a payload after a successful [`put`](Self::put).
    fn durability(&self) -> Durability;

    /// Stores a payload under the record's key. It expires after seven days unless it is [persisted](Self::persist).
    ///
    /// `Ok`: the payload is stored at the level of [`durability`](Self::durability). `Err`: the payload may or may not
    /// be stored, and the caller must not promise that it is. An existing payload under the same key is replaced, and
    /// the new one expires again.
    fn put(&self, id: RecordId, payload: Bytes) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Returns the payload of a record as the store has it, without verifying its digest. `None` is definite absence.
    fn payload(&self, id: RecordId) -> impl Future<Output = Result<Option<Bytes>, StageError>> + Send;

    /// Returns a source that reads the payload of a record piece by piece. `None` is definite absence.
    fn source(&self, id: RecordId) -> impl Future<Output = Result<Option<PayloadSource>, StageError>> + Send;

    /// Returns the payload's size in bytes, without reading the payload. `None` is definite absence.
    fn size(&self, id: RecordId) -> impl Future<Output = Result<Option<u64>, StageError>> + Send;

    /// Removes the expiry of a payload whose record was accepted. Returns whether the cache has the payload; `false` is
    /// definite absence.
    fn persist(&self, id: RecordId) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Removes a payload. Succeeds if the cache does not have it.
    fn unlink(&self, id: RecordId) -> impl Future<Output = Result<(), StageError>> + Send;
}
