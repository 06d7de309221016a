//! The short-lived store that takes a payload before its record is accepted.

use std::future::Future;

use crate::{
    content::{Content, Digested},
    error::StageError,
    message::RedisReference,
    receipt::Durability,
    record_id::RecordId,
};

/// The short-lived store that takes a payload before its record is accepted.
pub trait PayloadCache: Send + Sync {
    /// Where this cache keeps, or would keep, the payload of a record. It names the cluster, not a node.
    fn reference(&self, id: RecordId) -> RedisReference;

    /// What a successful [`put`](Self::put) is worth.
    fn durability(&self) -> Durability;

    /// Stores a payload under the record's key, with the time-to-live of what was never accepted.
    fn put(
        &self,
        id: RecordId,
        payload: &Content<'_>,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// The payload of a record. `None` is definite absence.
    fn payload(&self, id: RecordId) -> impl Future<Output = Result<Option<Digested>, StageError>> + Send;

    /// The size of a payload, by the same rules.
    fn size(&self, id: RecordId) -> impl Future<Output = Result<Option<u64>, StageError>> + Send;

    /// Takes the expiry off: the record was accepted. Whether there is such a payload.
    fn persist(&self, id: RecordId) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Forgets a payload. One that is not there is forgotten already.
    fn unlink(&self, id: RecordId) -> impl Future<Output = Result<(), StageError>> + Send;
}
