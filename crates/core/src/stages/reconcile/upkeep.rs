//! Upkeep: renews the claim of an open record, and removes the expiry of the payload of a record in progress.

use tracing::warn;

use super::Reconcile;
use crate::{
    clock::Timestamp,
    idempotency::CLAIM_LIFETIME,
    open_record::{OpenRecord, OpenState},
    ports::{Deployment, IdempotencyClaims as _, PayloadCache as _},
    receipt::Durability,
};

impl<D: Deployment> Reconcile<D> {
    /// Removes the expiry of the payload of a record in progress. Ingest does so after its response, but it may have
    /// died before that.
    pub(super) async fn remove_payload_expiry(&self, record: &OpenRecord) {
        if record.durability == Durability::Archived || record.state != OpenState::InProgress {
            return;
        }
        if let Err(error) = self.cache.persist(record.id()).await {
            warn!(record.id = %record.id(), error.name = error.name.as_str(), %error, "could not remove the expiry of a payload");
        }
    }

    /// Renews the claim of the record's idempotency key, because the key stands for the record as long as the record is
    /// open.
    pub(super) async fn renew_claim(&self, record: &OpenRecord, now: Timestamp) {
        let Some(key) = &record.key else { return };
        // The claim is at least half its lifetime away from its expiry.
        if now.since(record.message.accepted_at()) < CLAIM_LIFETIME / 2 {
            return;
        }
        if let Err(error) = self.claims.renew(key, record.id(), now.after(CLAIM_LIFETIME)).await {
            warn!(record.id = %record.id(), error.name = error.name.as_str(), %error, "could not renew the claim of an open record");
        }
    }
}
