//! Acceptance: the payload is made durable, then one conditional write makes the record the deployment's to finish.

use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{self, Either};
use tracing::{error, info, warn};

use super::{FollowUp, Ingest, Refusal, Taken};
use crate::{
    clock::Clock as _,
    digest::{Sha256, hash_beside},
    envelope::{Payload, Request},
    error::StageError,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::{InternalMessage, PayloadDescriptor, SecurityContext, StorageContext},
    open_record::{OpenRecord, OpenState},
    ports::{
        Acceptance, AcceptanceMarkers as _, Deployment, FailedStore as _, IdempotencyClaims as _,
        OpenRecords as _, PayloadArchive as _, PayloadCache as _,
    },
    problem::{Problem, ProblemKind},
    receipt::{Durability, Receipt},
    record_id::RecordId,
};

/// Where a payload was made durable.
struct Stored {
    durability: Durability,
    place: StorageContext,
}

impl<D: Deployment> Ingest<D> {
    /// Takes a request without a key.
    pub(super) async fn accept(
        &self,
        Request { context, meta_data, payload, .. }: Request,
    ) -> Result<Taken, Refusal> {
        let id = self.clock.mint();
        let (cached, sha256) = hash_beside(&payload.content, self.cache.put(id, &payload.content)).await;
        let (content, payload) = describe(payload, sha256);
        let message = InternalMessage::new(id, meta_data, payload, SecurityContext::from(context));
        let stored = self.stored(cached, &message, content).await?;
        let record = self.open_record(message, stored, None);
        let receipt = Receipt::new(&record.message, record.durability);
        if self.open_without_claim(&record).await {
            return Ok(Taken { receipt, replayed: false, follow_up: FollowUp::accepted(record) });
        }
        // Reconcile adopts the marker before anything is started.
        self.markers.mark(&record).await.map_err(|error| {
            error!(record.id = %id, error.name = error.name.as_str(), %error, "no store took the acceptance");
            no_durable_store()
        })?;
        Ok(Taken { receipt, replayed: false, follow_up: FollowUp::marked(&record) })
    }

    /// Whether the open-record table has taken the acceptance. `false` where it has not, or may not have.
    async fn open_without_claim(&self, record: &OpenRecord) -> bool {
        if self.table_breaker.is_open(self.clock.now()) {
            return false;
        }
        match self.open.accept(record, None).await {
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

    /// Takes a request with a key, or repeats the receipt of the record that the key stands for.
    ///
    /// The claim is read while the cache stores the payload. The archive, which forgets nothing, is asked only after that.
    pub(super) async fn accept_once(
        &self,
        key: IdempotencyKey,
        Request { context, meta_data, payload, .. }: Request,
    ) -> Result<Taken, Refusal> {
        if self.table_breaker.is_open(self.clock.now()) {
            return Err(keys_unavailable().into());
        }
        let id = self.clock.mint();
        let put_and_look_up = async {
            // A receipt that is repeated waits for no cache: once the claim is found, the put is given up.
            let put = pin!(self.cache.put(id, &payload.content));
            match future::select(put, pin!(self.holder_of(&key))).await {
                Either::Left((cached, claim)) => (cached, claim.await),
                Either::Right((holder @ Ok(Holder::Nobody | Holder::Expired(_)), put)) => (put.await, holder),
                Either::Right((holder, _)) => (Ok(()), holder),
            }
        };
        let ((cached, holder), sha256) = hash_beside(&payload.content, put_and_look_up).await;
        let (content, payload) = describe(payload, sha256);
        let message = InternalMessage::new(id, meta_data, payload, SecurityContext::from(context));
        // The payload is unlinked in every case but acceptance and an outcome that nobody knows. A put that failed, or was given
        // up, may have had its effect.
        let in_vain = Some(id);
        let refused = |problem: Problem| Refusal { problem, unlink: in_vain };
        let holder = holder.map_err(|error| {
            self.table_breaker.trip(self.clock.now());
            error!(error.name = error.name.as_str(), %error, "the idempotency table cannot be asked");
            refused(keys_unavailable())
        })?;
        let replaces = match holder {
            Holder::Nobody => None,
            Holder::Expired(claim) => Some(claim),
            Holder::Record(claim) => {
                let holder = claim.message_id;
                let repeated = repeat(claim, &message, in_vain).map_err(refused)?;
                self.make_up_for_loss(holder, content).await.map_err(refused)?;
                return Ok(repeated);
            }
        };
        let stored = self.stored(cached, &message, content).await?;
        let record = self.open_record(message, stored, Some(key));
        let claim = Claim::new(&record.message, record.durability, record.started_at);
        let accepted = self.open.accept(&record, Some(&ClaimRequest { key, claim, replaces })).await;
        match accepted {
            Ok(Acceptance::Accepted) => {
                self.table_breaker.reset();
                let receipt = Receipt::new(&record.message, record.durability);
                Ok(Taken { receipt, replayed: false, follow_up: FollowUp::accepted(record) })
            }
            Ok(Acceptance::Held(claim)) => repeat(claim, &record.message, in_vain).map_err(refused),
            // The record may be accepted: its payload stays.
            Err(error) => {
                self.table_breaker.trip(self.clock.now());
                error!(record.id = %id, error.name = error.name.as_str(), %error, "a keyed acceptance has no known outcome");
                Err(keys_unavailable().into())
            }
        }
    }

    /// Preserves a payload that is sent again, where that of the key's record was lost: its producer is who can make up for
    /// that, and a redrive takes it from there.
    async fn make_up_for_loss(&self, holder: RecordId, content: Bytes) -> Result<(), Problem> {
        let open = self.open.find(holder).await.ok().flatten();
        let is_lost = open.is_some_and(|open| match open.state {
            OpenState::Failed { failure, .. } => failure.payload_reference.is_none(),
            OpenState::InProgress => false,
        });
        if !is_lost {
            return Ok(());
        }
        let kept = self.failed_store.keep(&holder.preserved_key(), content).await;
        kept.map_err(|error| {
            error!(record.id = %holder, error.name = error.name.as_str(), %error, "could not preserve a lost payload that was sent again");
            no_durable_store()
        })?;
        warn!(record.id = %holder, "preserved a lost payload that was sent again; a redrive completes its record");
        Ok(())
    }

    /// What a key stands for now. A claim outlives its time as long as its record is open.
    async fn holder_of(&self, key: &IdempotencyKey) -> Result<Holder, StageError> {
        let Some(claim) = self.claims.find(key).await? else { return Ok(Holder::Nobody) };
        if claim.is_expired(self.clock.now()) && self.open.find(claim.message_id).await?.is_none() {
            return Ok(Holder::Expired(claim));
        }
        Ok(Holder::Record(claim))
    }

    /// Where the payload of a message is durable: in the cache, which was asked first, or else in the archive.
    async fn stored(
        &self,
        cached: Result<(), StageError>,
        message: &InternalMessage,
        content: Bytes,
    ) -> Result<Stored, Problem> {
        let id = message.message_id;
        match cached {
            Ok(()) => {
                let redis_reference = Some(self.cache.reference(id));
                let place = StorageContext { redis_reference, ..StorageContext::default() };
                Ok(Stored { durability: self.cache.durability(), place })
            }
            Err(error) => {
                warn!(record.id = %id, error.name = error.name.as_str(), %error, "fell back to the archive");
                self.archive(message, content).await
            }
        }
    }

    /// Puts the payload to its final place.
    async fn archive(&self, message: &InternalMessage, content: Bytes) -> Result<Stored, Problem> {
        let (id, now) = (message.message_id, self.clock.now());
        let stored = self.archive.store(&id.archive_key(), content.into(), &message.payload, now).await;
        let object = stored.map_err(|error| {
            error!(record.id = %id, error.name = error.name.as_str(), %error, "no store took the payload");
            no_durable_store()
        })?;
        let mut place = StorageContext { s3_reference: Some(object.reference), ..StorageContext::default() };
        place.persistence.s3 = true;
        Ok(Stored { durability: Durability::Archived, place })
    }

    fn open_record(
        &self,
        message: InternalMessage,
        Stored { durability, place }: Stored,
        key: Option<IdempotencyKey>,
    ) -> OpenRecord {
        let message = InternalMessage { storage_context: place, ..message };
        let now = self.clock.now();
        OpenRecord::begin(message, durability, key, now, now.after(self.first_look))
    }
}

/// A payload's bytes, and what a message tells of them.
fn describe(payload: Payload, sha256: Sha256) -> (Bytes, PayloadDescriptor) {
    let Payload { content, content_type, encoding } = payload;
    let descriptor = PayloadDescriptor { sha256, size_bytes: content.len() as u64, content_type, encoding };
    (content, descriptor)
}

/// What a key stands for.
enum Holder {
    /// No record.
    Nobody,
    /// A record that is closed, and longer ago than a claim lives.
    Expired(Claim),
    /// This record.
    Record(Claim),
}

/// The receipt that the holder of a key was given, where this request is the same as its own.
fn repeat(holder: Claim, own: &InternalMessage, in_vain: Option<RecordId>) -> Result<Taken, Problem> {
    let fingerprint = crate::idempotency::fingerprint(&own.payload, &own.meta_data);
    if holder.fingerprint == fingerprint {
        info!(record.id = %holder.message_id, stage = "ingest", "repeated a receipt");
        let receipt = Receipt::of_claim(holder);
        return Ok(Taken { receipt, replayed: true, follow_up: FollowUp::default().and_unlink(in_vain) });
    }
    let difference = if holder.payload.sha256 != own.payload.sha256 {
        format!("payload SHA-256 {}, and this payload has {}", holder.payload.sha256, own.payload.sha256)
    } else if holder.payload.content_type == own.payload.content_type {
        "other metadata".to_owned()
    } else {
        format!(
            "content type {}, and this payload has {}",
            crate::json::excerpt(&holder.payload.content_type),
            crate::json::excerpt(&own.payload.content_type)
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

fn no_durable_store() -> Problem {
    Problem::new(
        ProblemKind::NoDurableStore,
        "no store could take the record; nothing was acknowledged, send it again after the time in Retry-After",
    )
}

fn keys_unavailable() -> Problem {
    Problem::new(
        ProblemKind::KeysUnavailable,
        "what the idempotency key (Idempotency-Key, or a CloudEvent's source and id) stands for cannot be looked up now; \
         nothing was acknowledged, send it again after the time in Retry-After",
    )
}
