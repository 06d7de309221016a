//! Acceptance of a request without an idempotency key.

use tracing::{error, warn};

use super::{AcknowledgedRequest, FollowUp, Ingest, NewRecord, ProblemAnswer, durability::describe};
use crate::{
    clock::Clock as _,
    digest::hash_during,
    message::InternalMessage,
    open_record::OpenRecord,
    ports::{AcceptanceMarkers as _, Deployment, OpenRecords as _},
    receipt::Receipt,
    stages::keys::no_durable_store,
};

impl<D: Deployment> Ingest<D> {
    /// Accepts a request without an idempotency key.
    pub(super) async fn accept_without_key(
        &self,
        NewRecord { metadata, payload, durability, sender }: NewRecord,
    ) -> Result<AcknowledgedRequest, ProblemAnswer> {
        let id = self.clock.mint();
        let write = self.write_to_cache(id, payload.content.clone(), durability);
        let (cache_write, sha256) = hash_during(&payload.content, write).await;
        let (content, payload) = describe(payload, sha256);
        let message = InternalMessage::new(id, metadata, payload, sender);
        let stored = self.make_durable(cache_write, &message, content).await?;
        let record = self.open_record(message, stored, None);
        let receipt = Receipt::new(&record.message, record.durability);
        if self.open_without_claim(&record).await {
            return Ok(AcknowledgedRequest::first(receipt, FollowUp::accepted(record)));
        }
        // The marker is now the acceptance. Ingest starts nothing, because reconcile must first adopt the marker. If
        // the table stored the acceptance too (its reply was lost), reconcile recognizes the same attempt.
        self.markers.mark(&record).await.map_err(|error| {
            error!(record.id = %id, error.name = error.name.as_str(), %error, "no store took the acceptance");
            no_durable_store()
        })?;
        Ok(AcknowledgedRequest::first(receipt, FollowUp::marked(&record)))
    }

    /// Writes the acceptance to the open-record table, unless the breaker is open. Returns `true` if the table
    /// confirmed the write; `false` if it did not, or if the outcome is unknown.
    async fn open_without_claim(&self, record: &OpenRecord) -> bool {
        if self.table_breaker.is_open(self.clock.now()) {
            return false;
        }
        match self.open_records.accept(record, None).await {
            Ok(_) => {
                self.table_breaker.reset();
                true
            }
            Err(error) => {
                self.table_breaker.trip(self.clock.now());
                let id = record.id();
                warn!(record.id = %id, error.name = error.name.as_str(), %error, "fell back to an acceptance marker");
                false
            }
        }
    }
}
