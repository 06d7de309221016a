//! Archive: moves a payload from where it is into the archive.

use tracing::{info, warn};

use crate::{
    clock::Clock as _,
    content::Digested,
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
        // Ingest archived the payload itself where the cache could not take it.
        let is_archived = message.storage_context.s3_reference.is_some();
        let source = if is_archived { Ok(None) } else { self.source(message).await };
        let object = match source {
            Ok(Some(payload)) => {
                let now = self.clock.now();
                self.archive.store(&id.archive_key(), payload.bytes, &message.payload, now).await?
            }
            // Looked at last: what left the cache meanwhile went there. It is the normal case of a late repetition, too.
            source => match (confirm(&self.archive, message).await?, source) {
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

    /// The payload from the cache, else from the failed bucket. A store that cannot be asked is passed over where the
    /// other one has the payload.
    async fn source(&self, message: &InternalMessage) -> Result<Option<Digested>, StageError> {
        let id = message.message_id;
        let cached = self.cache.payload(id).await;
        if let Ok(Some(payload)) = &cached
            && payload.sha256 == message.payload.sha256
        {
            return cached;
        }
        let preserved = self.failed_store.fetch(&id.preserved_key()).await?.map(Digested::from);
        if let Some(payload) = preserved.filter(|payload| payload.sha256 == message.payload.sha256) {
            return Ok(Some(payload));
        }
        match cached? {
            None => Ok(None),
            Some(payload) => {
                warn!(record.id = %id, "the cached payload has another digest than the receipt");
                Err(StageError::new(
                    ErrorName::PayloadCorrupted,
                    format!(
                        "archive record {id}: the cached payload has SHA-256 {}, the receipt says {}",
                        payload.sha256, message.payload.sha256
                    ),
                ))
            }
        }
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
