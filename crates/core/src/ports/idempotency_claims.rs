//! The idempotency table.

use std::future::Future;

use crate::{
    clock::Timestamp,
    error::StageError,
    idempotency::{Claim, IdempotencyKey},
    record_id::RecordId,
};

/// The store of claims. A claim assigns an idempotency key to a record.
pub trait IdempotencyClaims: Send + Sync {
    /// Returns the claim of a key, read consistently. An expired claim is returned too.
    fn find(&self, key: &IdempotencyKey) -> impl Future<Output = Result<Option<Claim>, StageError>> + Send;

    /// Moves the expiry of a claim to `until`, unless it is later already. Changes nothing if the claim does not exist
    /// or belongs to another record.
    fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;
}
