//! Acceptance of a request with an idempotency key: one record per key, however often the request is sent.

use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{self, Either};
use tracing::{error, info, warn};

use super::{
    AcknowledgedRequest, FollowUp, Ingest, NewRecord, ProblemAnswer,
    durability::{CacheWrite, describe},
};
use crate::{
    clock::Clock as _,
    digest::hash_during,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::InternalMessage,
    open_record::OpenState,
    ports::{Acceptance, Deployment, FailedStore as _, OpenRecords as _},
    problem::Problem,
    receipt::Receipt,
    record_id::RecordId,
    stages::keys::{KeyState, check_same_request, keys_unavailable, no_durable_store},
};

impl<D: Deployment> Ingest<D> {
    /// Accepts a request with an idempotency key, or repeats the receipt of the record that holds the key.
    ///
    /// The claim is read while the cache stores the payload. The archive is written only after the claim was read,
    /// because nothing can be deleted from the archive: the payload of a repeated request would stay there as an
    /// orphan.
    pub(super) async fn accept_with_key(
        &self,
        key: IdempotencyKey,
        NewRecord { metadata, payload, durability, sender }: NewRecord,
    ) -> Result<AcknowledgedRequest, ProblemAnswer> {
        if self.table_breaker.is_open(self.clock.now()) {
            return Err(keys_unavailable().into());
        }
        let id = self.clock.mint();
        let put_and_look_up = async {
            // A repeated receipt does not wait for the cache: once the claim of a record is found, the put is
            // abandoned.
            let put = pin!(self.write_to_cache(id, payload.content.clone(), durability));
            let key_state = KeyState::of(&key, &self.claims, &self.open_records, self.clock.now());
            match future::select(put, pin!(key_state)).await {
                Either::Left((cache_write, key_state)) => (cache_write, key_state.await),
                Either::Right((key_state @ Ok(KeyState::Free | KeyState::Expired(_)), put)) => {
                    (put.await, key_state)
                }
                // The key is claimed, or the look-up failed: the put is abandoned, and its result is not used.
                Either::Right((key_state, _)) => (CacheWrite::Skipped, key_state),
            }
        };
        let ((cache_write, key_state), sha256) = hash_during(&payload.content, put_and_look_up).await;
        let (content, payload) = describe(payload, sha256);
        let message = InternalMessage::new(id, metadata, payload, sender);
        // After the response, the payload is unlinked if another record holds the key or if the key could not be looked
        // up. The put may have failed or been abandoned; it may have stored the payload nevertheless. The payload stays
        // if the record is accepted or if the outcome is unknown.
        let unlink_id = Some(id);
        let refused = |problem: Problem| ProblemAnswer { problem, unlink: unlink_id };
        let key_state = key_state.map_err(|error| {
            self.table_breaker.trip(self.clock.now());
            error!(error.name = error.name.as_str(), %error, "the idempotency table cannot be asked");
            refused(keys_unavailable())
        })?;
        let replaces = match key_state {
            KeyState::Free => None,
            KeyState::Expired(claim) => Some(claim),
            KeyState::Claimed(claim) => {
                let holder = claim.message_id;
                let repeated = repeat_receipt(claim, &message, unlink_id).map_err(refused)?;
                self.preserve_if_lost(holder, content).await.map_err(refused)?;
                return Ok(repeated);
            }
        };
        let stored = self.make_durable(cache_write, &message, content).await?;
        let record = self.open_record(message, stored, Some(key));
        let claim = Claim::new(&record.message, record.durability, record.started_at);
        let accepted = self.open_records.accept(&record, Some(&ClaimRequest { key, claim, replaces })).await;
        match accepted {
            Ok(Acceptance::Accepted | Acceptance::AlreadyAccepted) => {
                self.table_breaker.reset();
                let receipt = Receipt::new(&record.message, record.durability);
                Ok(AcknowledgedRequest::first(receipt, FollowUp::accepted(record)))
            }
            Ok(Acceptance::KeyTaken(claim)) => {
                repeat_receipt(claim, &record.message, unlink_id).map_err(refused)
            }
            // The record may have been accepted, so its payload stays in the cache.
            Err(error) => {
                self.table_breaker.trip(self.clock.now());
                error!(record.id = %id, error.name = error.name.as_str(), %error, "a keyed acceptance has no known outcome");
                Err(keys_unavailable().into())
            }
        }
    }

    /// Preserves the payload of a repeated request if the payload of the key's record was lost. Only the producer can
    /// replace a lost payload. A redrive then reads it from the failed bucket.
    async fn preserve_if_lost(&self, holder: RecordId, content: Bytes) -> Result<(), Problem> {
        // If the table cannot be asked, the receipt is repeated without this step. The producer may repeat the request again.
        let open = self.open_records.find(holder).await.ok().flatten();
        let is_lost = open.is_some_and(|open| match open.state {
            OpenState::Failed { failure, .. } => failure.payload_reference.is_none(),
            OpenState::InProgress => false,
        });
        if !is_lost {
            return Ok(());
        }
        let kept = self.failed_store.preserve(&holder.preserved_key(), content).await;
        kept.map_err(|error| {
            error!(record.id = %holder, error.name = error.name.as_str(), %error, "could not preserve a lost payload that was sent again");
            no_durable_store()
        })?;
        warn!(record.id = %holder, "preserved a lost payload that was sent again; a redrive completes its record");
        Ok(())
    }
}

/// Repeats the receipt of the record that holds the key, if `own` describes the same request. Otherwise returns the
/// problem `idempotency-conflict`, which names the difference.
fn repeat_receipt(
    holder: Claim,
    own: &InternalMessage,
    unlink_id: Option<RecordId>,
) -> Result<AcknowledgedRequest, Problem> {
    check_same_request(&holder, &own.payload, &own.metadata)?;
    info!(record.id = %holder.message_id, stage = "ingest", "repeated a receipt");
    let receipt = Receipt::of_claim(holder);
    Ok(AcknowledgedRequest::replay(receipt, FollowUp::default().and_unlink(unlink_id)))
}
