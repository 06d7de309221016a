//! Archive: moves a payload from where it is into the archive.

use bytes::Bytes;
use tracing::{info, warn};

use crate::{
    clock::Clock as _,
    digest::Sha256,
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{ArchivedObject, Deployment, FailedStore as _, PayloadArchive, PayloadCache as _},
    receipt::ArchiveReceipt,
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[
    ErrorName::ArchiveUnavailable,
    ErrorName::CacheUnavailable,
    ErrorName::FailedStoreUnavailable,
    ErrorName::PayloadMissing,
];

/// The archive stage over its ports.
pub struct Archive<D: Deployment> {
    /// Has the payload of a new record.
    pub cache: D::Cache,
    /// Has the payload of a record that failed.
    pub failed_store: D::Failed,
    /// Takes the payload.
    pub archive: D::Archive,
    /// Tells the time.
    pub clock: D::Time,
}

impl<D: Deployment> Archive<D> {
    /// Archives the payload of `message`. The object's key derives from the record's id and the write is conditional, so
    /// running twice, late or concurrently leaves one object.
    pub async fn run(&self, message: &InternalMessage) -> Result<ArchiveReceipt, StageError> {
        let id = message.message_id;
        let object = match self.store(message).await {
            Ok(Some(object)) => object,
            // It could not be asked a moment ago, and this function's time is dear while it is away.
            Err(error) if error.name == ErrorName::ArchiveUnavailable => return Err(error),
            // Looked at last: what left the cache meanwhile went there. It is the normal case of a late repetition, too.
            stored => match (confirm(&self.archive, message).await?, stored) {
                (Some(object), _) => object,
                (None, Err(error)) => return Err(error),
                (None, Ok(_)) => {
                    return Err(StageError::new(
                        ErrorName::PayloadMissing,
                        format!("archive record {id}: the payload is in no store"),
                    ));
                }
            },
        };
        info!(record.id = %id, stage = "archive", size_bytes = message.payload.size_bytes, "archived payload");
        Ok(ArchiveReceipt {
            s3_reference: object.reference,
            sha256: message.payload.sha256,
            size_bytes: message.payload.size_bytes,
            archived_at: object.archived_at,
        })
    }

    /// Stores the payload from the cache, else from the failed bucket. `None` where neither has it. A store that cannot be
    /// asked, or has other bytes, is passed over where the other one has the payload.
    async fn store(&self, message: &InternalMessage) -> Result<Option<ArchivedObject>, StageError> {
        // Ingest archived the payload itself where the cache could not take it.
        if message.storage_context.s3_reference.is_some() {
            return Ok(None);
        }
        let id = message.message_id;
        let from_cache = match self.cache.payload(id).await {
            Ok(Some(payload)) => match self.put(message, payload).await {
                Err(error) if error.name == ErrorName::PayloadCorrupted => Err(error),
                stored => return stored.map(Some),
            },
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(payload) = self.failed_store.fetch(&id.preserved_key()).await? {
            match self.put(message, payload).await {
                Err(error) if error.name == ErrorName::PayloadCorrupted => {}
                stored => return stored.map(Some),
            }
        }
        from_cache
    }

    /// Puts bytes under the record's key. The archive holds them against the digest in the receipt; only where it refuses
    /// them, they are hashed here, to tell bytes that were altered on their way from those that were altered at rest.
    async fn put(&self, message: &InternalMessage, payload: Bytes) -> Result<ArchivedObject, StageError> {
        let (id, now) = (message.message_id, self.clock.now());
        let stored = self.archive.store(&id.archive_key(), payload.clone(), &message.payload, now).await;
        let Err(error) = stored else { return stored };
        if error.name != ErrorName::PayloadCorrupted {
            return Err(error);
        }
        let (found, promised) = (Sha256::of(&payload), message.payload.sha256);
        if found == promised {
            let operation = format!("archive record {id}: the payload was altered on its way to the archive");
            return Err(StageError::new(ErrorName::ArchiveUnavailable, operation).caused_by(error));
        }
        warn!(record.id = %id, "a payload has another digest than its receipt");
        let operation =
            format!("archive record {id}: its payload has SHA-256 {found}, the receipt says {promised}");
        Err(StageError::new(ErrorName::PayloadCorrupted, operation))
    }
}

/// The record's object in the archive, when it is there with the record's digest.
pub(crate) async fn confirm(
    archive: &impl PayloadArchive,
    message: &InternalMessage,
) -> Result<Option<ArchivedObject>, StageError> {
    let id = message.message_id;
    let Some(object) = archive.find(&id.archive_key()).await? else { return Ok(None) };
    if object.sha256 != message.payload.sha256 || object.size_bytes != message.payload.size_bytes {
        return Err(StageError::new(
            ErrorName::ArchiveConflict,
            format!(
                "archive record {id}: the archive holds {} under its key, the receipt says {}",
                object.sha256, message.payload.sha256
            ),
        ));
    }
    Ok(Some(object))
}
