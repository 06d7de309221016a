//! Making a record durable: payload and intent, in the cache or else in the archive.
//!
//! *Invariant:* `Ok` means that payload and intent are stored together, confirmed by the wanted replicas, or that the
//! payload is in the archive and a marker says that it is not done.

use tracing::warn;

use crate::{
    content::Content,
    error::StageError,
    idempotency::IdempotencyKey,
    message::InternalMessage,
    ports::{PayloadArchive, PayloadCache, PendingMarkers},
    receipt::Durability,
};

/// Neither store took a record.
#[derive(Debug, thiserror::Error)]
#[error("{archive} (the cache before: {})", .cache.as_ref().map_or("not asked".to_owned(), ToString::to_string))]
pub(crate) struct NoStore {
    cache: Option<StageError>,
    archive: StageError,
}

impl NoStore {
    /// The error to report for both.
    pub(crate) fn into_error(self) -> StageError {
        self.archive
    }
}

/// The stores that take records.
#[derive(Debug)]
pub(crate) struct Intake<'a, C, A, M> {
    pub(crate) cache: &'a C,
    pub(crate) archive: &'a A,
    pub(crate) markers: &'a M,
}

impl<C: PayloadCache, A: PayloadArchive, M: PendingMarkers> Intake<'_, C, A, M> {
    /// Stores payload and intent; `message` says afterwards where they are.
    pub(crate) async fn store(
        &self,
        message: &mut InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<Durability, NoStore> {
        let id = message.message_id;
        message.storage_context.redis_reference = Some(self.cache.reference(id));
        let Err(error) = self.cache.put(message, payload, key).await else {
            *message = message.with_payload(payload);
            return Ok(Durability::Replicated);
        };
        warn!(record.id = %id, error.name = error.name.as_str(), %error, "fell back to the archive");
        self.archive_directly(message, payload)
            .await
            .map_err(|archive| NoStore { cache: Some(error), archive: archive.archive })
    }

    /// Payload first, marker second: a marker without its payload would promise what is not there, while a
    /// payload without its marker is an orphan that nobody was promised.
    pub(crate) async fn archive_directly(
        &self,
        message: &mut InternalMessage,
        payload: &Content<'_>,
    ) -> Result<Durability, NoStore> {
        *message = message.with_payload(payload);
        let stored = async {
            let key = message.message_id.archive_key();
            let reference = self.archive.store(&key, payload.to_bytes(), &message.payload).await?;
            message.archived_at(reference);
            self.markers.mark(message).await
        };
        stored.await.map_err(|archive| NoStore { cache: None, archive })?;
        Ok(Durability::Archived)
    }
}
