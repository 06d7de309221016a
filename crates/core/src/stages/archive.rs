//! Archive: moves a payload from where it is into the archive.

use tracing::{info, warn};

use crate::{
    clock::Clock as _,
    error::{ErrorName, StageError},
    message::InternalMessage,
    payload_source::PayloadSource,
    ports::{ArchivedObject, Deployment, FailedStore as _, PayloadArchive, PayloadCache as _},
    receipt::ArchiveReceipt,
    record_id::RecordId,
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
        let from_cache = match self.put(message, Holder::Cache).await {
            Ok(Some(object)) => return Ok(Some(object)),
            Err(NotPut::Refused(error)) => return Err(error),
            Ok(None) => Ok(None),
            Err(NotPut::Unusable(error)) => Err(error),
        };
        match self.put(message, Holder::FailedStore).await {
            Ok(Some(object)) => Ok(Some(object)),
            Err(NotPut::Unusable(error)) if error.name != ErrorName::PayloadCorrupted => Err(error),
            Err(NotPut::Refused(error)) => Err(error),
            Ok(None) | Err(NotPut::Unusable(_)) => from_cache,
        }
    }

    /// The payload that a store has; `None` where it has none.
    async fn source(&self, id: RecordId, holder: Holder) -> Result<Option<PayloadSource>, StageError> {
        match holder {
            Holder::Cache => self.cache.source(id).await,
            Holder::FailedStore => self.failed_store.source(&id.preserved_key()).await,
        }
    }

    /// Puts the payload that a store has under the record's key; `None` where the store has none.
    async fn put(&self, message: &InternalMessage, holder: Holder) -> Result<Option<ArchivedObject>, NotPut> {
        let payload = self.source(message.message_id, holder).await.map_err(NotPut::Unusable)?;
        let Some(payload) = payload else { return Ok(None) };
        let (key, now, broken_off) =
            (message.message_id.archive_key(), self.clock.now(), payload.broken_off());
        match self.archive.store(&key, payload, &message.payload, now).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.name == ErrorName::PayloadCorrupted => {
                Err(self.why_corrupted(message, error, holder).await)
            }
            // It was the holder that failed, not the archive.
            Err(_) if let Some(cause) = broken_off.error() => {
                let operation = format!("read the payload of record {}", message.message_id);
                Err(NotPut::Unusable(StageError::new(holder.unavailable(), operation).caused_by(cause)))
            }
            Err(error) => Err(NotPut::Refused(error)),
        }
    }

    /// Finds out why the archive refused the bytes that a store has: they were altered there, or on their way from there. Only
    /// then are they hashed here: the archive does it on every write.
    async fn why_corrupted(&self, message: &InternalMessage, refused: StageError, holder: Holder) -> NotPut {
        let (id, promised) = (message.message_id, message.payload.sha256);
        let another_try = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let operation = format!("archive record {id}: the payload was altered on its way to the archive");
            NotPut::Refused(StageError::new(ErrorName::ArchiveUnavailable, operation).caused_by(cause))
        };
        let found = match self.source(id, holder).await {
            Ok(Some(payload)) => payload.sha256().await,
            // It has moved meanwhile: the next try finds it elsewhere.
            Ok(None) => return another_try(refused.into()),
            Err(error) => return NotPut::Unusable(error),
        };
        match found {
            Ok(found) if found != promised => {
                warn!(record.id = %id, "a payload has another digest than its receipt");
                let operation = format!(
                    "archive record {id}: its payload has SHA-256 {found}, the receipt says {promised}"
                );
                NotPut::Unusable(StageError::new(ErrorName::PayloadCorrupted, operation))
            }
            Ok(_) => another_try(refused.into()),
            Err(error) => another_try(error.into()),
        }
    }
}

/// A store that may have a payload which is not archived yet.
#[derive(Clone, Copy)]
enum Holder {
    Cache,
    FailedStore,
}

impl Holder {
    const fn unavailable(self) -> ErrorName {
        match self {
            Self::Cache => ErrorName::CacheUnavailable,
            Self::FailedStore => ErrorName::FailedStoreUnavailable,
        }
    }
}

/// The reason why the payload that a store has was not put into the archive.
enum NotPut {
    /// The store cannot be asked, or has other bytes than the receipt promised.
    Unusable(StageError),
    /// The archive did not take it.
    Refused(StageError),
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

#[cfg(test)]
mod tests;
