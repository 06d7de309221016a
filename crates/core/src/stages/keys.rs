//! What an idempotency key stands for, as the stages that accept records find it out.

use crate::{
    clock::Timestamp,
    error::StageError,
    idempotency::{Claim, IdempotencyKey, fingerprint},
    message::PayloadDescriptor,
    metadata::MessageMetadata,
    ports::{IdempotencyClaims, OpenRecords},
    problem::{Problem, ProblemKind},
};

/// What an idempotency key stands for.
pub(super) enum KeyState {
    /// The key stands for no record.
    Free,
    /// A claim has expired and its record is closed: a new record may replace the claim.
    Expired(Claim),
    /// The key stands for the record of this claim.
    Claimed(Claim),
}

impl KeyState {
    /// Finds out what a key stands for now. A claim that is past its expiry still holds the key while its record is open.
    pub(super) async fn of(
        key: &IdempotencyKey,
        claims: &impl IdempotencyClaims,
        open_records: &impl OpenRecords,
        now: Timestamp,
    ) -> Result<Self, StageError> {
        let Some(claim) = claims.find(key).await? else { return Ok(Self::Free) };
        if claim.is_expired(now) && open_records.find(claim.message_id).await?.is_none() {
            return Ok(Self::Expired(claim));
        }
        Ok(Self::Claimed(claim))
    }
}

/// Checks that a request with this payload and metadata is the one that holds the key. The problem `idempotency-conflict`
/// names the difference.
pub(super) fn check_same_request(
    holder: &Claim,
    payload: &PayloadDescriptor,
    metadata: &MessageMetadata,
) -> Result<(), Problem> {
    if holder.fingerprint == fingerprint(payload, metadata) {
        return Ok(());
    }
    let difference = if holder.payload.sha256 != payload.sha256 {
        format!("payload SHA-256 {}, and this payload has {}", holder.payload.sha256, payload.sha256)
    } else if holder.payload.content_type == payload.content_type {
        "other metadata".to_owned()
    } else {
        format!(
            "content type {}, and this payload has {}",
            crate::json::excerpt(&holder.payload.content_type),
            crate::json::excerpt(&payload.content_type)
        )
    };
    Err(Problem::new(
        ProblemKind::IdempotencyConflict,
        format!(
            "the idempotency key (Idempotency-Key, or a CloudEvent's source and id) belongs to record {} with \
             {difference}; send another key with another record",
            holder.message_id
        ),
    ))
}

/// Returns the problem of a request whose key cannot be looked up.
pub(super) fn keys_unavailable() -> Problem {
    Problem::new(
        ProblemKind::KeysUnavailable,
        "what the idempotency key (Idempotency-Key, or a CloudEvent's source and id) stands for cannot be looked up now; \
         nothing was acknowledged, send it again after the time in Retry-After",
    )
}

/// Returns the problem of a request whose payload or acceptance no store could write.
pub(super) fn no_durable_store() -> Problem {
    Problem::new(
        ProblemKind::NoDurableStore,
        "no store could take the record; nothing was acknowledged, send it again after the time in Retry-After",
    )
}
