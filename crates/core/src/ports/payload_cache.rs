//! The short-lived store that takes a payload before its record is accepted.

use std::future::Future;

use bytes::Bytes;

use crate::{
    error::StageError, message::RedisReference, payload_source::PayloadSource, receipt::Durability,
    record_id::RecordId,
};

/// The short-lived store of payloads, one entry per record. Every call may be repeated.
///
/// *Absence is an answer, not a failure.* `None` and `false` mean that the store itself reported that there is no such
/// payload. A store that cannot be asked, or that cannot be sure, is a `CacheUnavailable` error: whoever decides that a
/// payload is lost relies on the difference.
pub trait PayloadCache: Send + Sync {
    /// Where this cache keeps, or would keep, the payload of a record. The reference names the cluster, not one of its
    /// nodes: payloads move between nodes.
    fn reference(&self, id: RecordId) -> RedisReference;

    /// The durability of a payload after a successful [`put`](Self::put).
    fn durability(&self) -> Durability;

    /// Stores a payload under the record's key. It expires after seven days unless it is [persisted](Self::persist).
    ///
    /// `Ok`: the payload is stored at the level of [`durability`](Self::durability). `Err`: it may or may not be stored,
    /// and nothing may be promised on it. A payload that was there under the same key is replaced, and expires again.
    fn put(&self, id: RecordId, payload: &[u8]) -> impl Future<Output = Result<(), StageError>> + Send;

    /// The payload of a record, as the store has it: nobody has held it against a digest. `None` is definite absence.
    fn payload(&self, id: RecordId) -> impl Future<Output = Result<Option<Bytes>, StageError>> + Send;

    /// The payload of a record, to be read piece by piece. `None` is definite absence.
    fn source(&self, id: RecordId) -> impl Future<Output = Result<Option<PayloadSource>, StageError>> + Send;

    /// The payload's size in bytes, without reading it. `None` is definite absence.
    fn size(&self, id: RecordId) -> impl Future<Output = Result<Option<u64>, StageError>> + Send;

    /// Takes the expiry off a payload: its record was accepted. Whether there is such a payload; `false` is definite
    /// absence.
    fn persist(&self, id: RecordId) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Removes a payload. One that is not there is removed already.
    fn unlink(&self, id: RecordId) -> impl Future<Output = Result<(), StageError>> + Send;
}
