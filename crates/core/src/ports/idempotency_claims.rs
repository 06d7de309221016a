//! The idempotency table.

use std::future::Future;

use crate::{
    clock::Timestamp,
    error::StageError,
    idempotency::{Claim, IdempotencyKey},
    record_id::RecordId,
};

/// The store of claims: the record that each idempotency key stands for.
pub trait IdempotencyClaims: Send + Sync {
    /// Returns the claim of a key with a consistent read, whether it has expired or not.
    fn find(&self, key: &IdempotencyKey) -> impl Future<Output = Result<Option<Claim>, StageError>> + Send;

    /// Extends the claim of a record until `until` at least. Changes nothing if the claim is gone or belongs to another
    /// record.
    fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}
