//! Durability: stores the payload before the record is accepted. If the cache could not store it, ingest stores it in
//! the archive.

use bytes::Bytes;
use tracing::{error, warn};

use super::Ingest;
use crate::{
    clock::Clock as _,
    digest::Sha256,
    envelope::Payload,
    error::StageError,
    idempotency::IdempotencyKey,
    message::{InternalMessage, PayloadDescriptor, StorageContext},
    open_record::OpenRecord,
    ports::{Deployment, PayloadArchive as _, PayloadCache as _},
    problem::{Problem, ProblemKind},
    receipt::Durability,
    record_id::RecordId,
    stages::keys::no_durable_store,
};

/// The outcome of the write of a payload to the cache.
pub(super) enum CacheWrite {
    /// The cache has the payload, at the durability that it offers.
    Stored,
    /// The cache may have the payload, but did not confirm it.
    Failed(StageError),
    /// The payload goes directly to the archive, because the producer asks for it.
    Skipped,
}

/// Where and how a payload was made durable.
pub(super) struct StoredPayload {
    durability: Durability,
    place: StorageContext,
}

impl<D: Deployment> Ingest<D> {
    /// Checks that the deployment can give the durability that a request asks for.
    pub(super) fn check_durability(&self, requested: Option<Durability>) -> Result<(), Problem> {
        let offered = self.cache.durability();
        match requested {
            Some(requested) if !offered.covers(requested) && requested != Durability::Archived => {
                Err(Problem::new(
                    ProblemKind::DurabilityNotOffered,
                    format!(
                        "Custody-Durability asks for `{requested}`, and this deployment gives `{offered}`; send \
                         `Custody-Durability: archived`, which waits for the archive, or no such header"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Writes a payload to the cache, unless the producer asks for the archive.
    pub(super) async fn write_to_cache(
        &self,
        id: RecordId,
        content: Bytes,
        requested: Option<Durability>,
    ) -> CacheWrite {
        if requested == Some(Durability::Archived) {
            return CacheWrite::Skipped;
        }
        self.cache.put(id, content).await.map_or_else(CacheWrite::Failed, |()| CacheWrite::Stored)
    }

    /// Makes sure that the payload is durable, and returns its place. If the cache has stored it, the place is the cache.
    /// Otherwise this function writes the payload to the archive.
    pub(super) async fn make_durable(
        &self,
        cache_write: CacheWrite,
        message: &InternalMessage,
        content: Bytes,
    ) -> Result<StoredPayload, Problem> {
        let id = message.message_id;
        match cache_write {
            CacheWrite::Stored => {
                let redis_reference = Some(self.cache.reference(id));
                let place = StorageContext { redis_reference, ..StorageContext::default() };
                Ok(StoredPayload { durability: self.cache.durability(), place })
            }
            CacheWrite::Skipped => self.archive(message, content).await,
            CacheWrite::Failed(error) => {
                warn!(record.id = %id, error.name = error.name.as_str(), %error, "fell back to the archive");
                self.archive(message, content).await
            }
        }
    }

    /// Stores the payload in the archive, under its final key.
    async fn archive(&self, message: &InternalMessage, content: Bytes) -> Result<StoredPayload, Problem> {
        let (id, now) = (message.message_id, self.clock.now());
        let stored = self.archive.store(&id.archive_key(), content.into(), &message.payload, now).await;
        let object = stored.map_err(|error| {
            error!(record.id = %id, error.name = error.name.as_str(), %error, "no store took the payload");
            no_durable_store()
        })?;
        let mut place = StorageContext { s3_reference: Some(object.reference), ..StorageContext::default() };
        place.persistence.s3 = true;
        Ok(StoredPayload { durability: Durability::Archived, place })
    }

    /// Builds the open record that the acceptance writes: the first attempt begins now.
    pub(super) fn open_record(
        &self,
        message: InternalMessage,
        StoredPayload { durability, place }: StoredPayload,
        key: Option<IdempotencyKey>,
    ) -> OpenRecord {
        let message = InternalMessage { storage_context: place, ..message };
        let now = self.clock.now();
        OpenRecord::begin(message, durability, key, now, now.after(self.first_look))
    }
}

/// Splits a payload into its bytes and its description in the message.
pub(super) fn describe(payload: Payload, sha256: Sha256) -> (Bytes, PayloadDescriptor) {
    let Payload { content, content_type, encoding } = payload;
    let descriptor = PayloadDescriptor { sha256, size_bytes: content.len() as u64, content_type, encoding };
    (content, descriptor)
}
