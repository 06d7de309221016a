//! Archive: copies a payload from the cache or the failed bucket to the archive, and stores its manifest.

use tracing::{info, warn};

use crate::{
    clock::Clock as _,
    error::{ErrorName, StageError},
    manifest::Manifest,
    message::InternalMessage,
    payload_source::PayloadSource,
    ports::{ArchivedObject, Deployment, FailedStore as _, PayloadArchive, PayloadCache as _},
    receipt::ArchiveReceipt,
    record_id::RecordId,
};

/// The transient failures of this stage. The stage's `Retry` in the state machine names these and the errors of AWS
/// itself (`TRANSIENT_PLATFORM_ERRORS`).
pub const TRANSIENT: &[ErrorName] = &[
    ErrorName::ArchiveUnavailable,
    ErrorName::CacheUnavailable,
    ErrorName::FailedStoreUnavailable,
    ErrorName::NewerSchemaVersion,
    ErrorName::PayloadMissing,
];

/// The archive stage over its ports.
pub struct Archive<D: Deployment> {
    /// The cache, which has the payload of a new record.
    pub cache: D::Cache,
    /// The failed bucket, which has the payload of a failed record.
    pub failed_store: D::FailedStore,
    /// The archive, which stores the payload.
    pub archive: D::Archive,
    pub clock: D::Clock,
}

impl<D: Deployment> Archive<D> {
    /// Archives the payload of `message`, then its manifest. Both keys derive from the attempt and both writes are
    /// conditional, so repeated, late or concurrent runs leave one object of each kind.
    pub async fn run(&self, message: &InternalMessage) -> Result<ArchiveReceipt, StageError> {
        let id = message.message_id;
        let object = match self.store(message).await {
            Ok(Some(object)) => object,
            // The write to the archive has just failed because the archive is unavailable. A look-up now would fail as
            // well.
            Err(error) if error.name == ErrorName::ArchiveUnavailable => return Err(error),
            // The archive is asked last: if another execution moved the payload while this one searched, the payload is
            // there now. A late repetition of this stage also finds it there.
            stored => match (find_verified(&self.archive, message).await?, stored) {
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
        let receipt = ArchiveReceipt {
            s3_reference: object.reference,
            sha256: message.payload.sha256,
            size_bytes: message.payload.size_bytes,
            archived_at: object.archived_at,
        };
        self.archive.store_manifest(&Manifest::new(message, receipt.clone())).await?;
        info!(record.id = %id, stage = "archive", size_bytes = message.payload.size_bytes, "archived payload");
        Ok(receipt)
    }

    /// Copies the payload to the archive from the cache, or else from the failed bucket. Returns `None` if neither
    /// store has it, or if ingest has archived it already (then no store is asked). If one store cannot be asked or has
    /// corrupted bytes, the payload comes from the other one.
    async fn store(&self, message: &InternalMessage) -> Result<Option<ArchivedObject>, StageError> {
        // Ingest has archived the payload itself, because the cache could not take it.
        if message.storage_context.s3_reference.is_some() {
            return Ok(None);
        }
        let from_cache = match self.put(message, PayloadStore::Cache).await {
            Ok(Some(object)) => return Ok(Some(object)),
            Err(CopyError::Archive(error)) => return Err(error),
            Ok(None) => Ok(None),
            Err(CopyError::Source(error)) => Err(error),
        };
        match self.put(message, PayloadStore::FailedStore).await {
            Ok(Some(object)) => Ok(Some(object)),
            Err(CopyError::Source(error)) if error.name != ErrorName::PayloadCorrupted => Err(error),
            Err(CopyError::Archive(error)) => Err(error),
            Ok(None) | Err(CopyError::Source(_)) => from_cache,
        }
    }

    /// Opens the payload in a store; `None` if the store does not have it.
    async fn source(&self, id: RecordId, store: PayloadStore) -> Result<Option<PayloadSource>, StageError> {
        match store {
            PayloadStore::Cache => self.cache.source(id).await,
            PayloadStore::FailedStore => self.failed_store.source(&id.preserved_key()).await,
        }
    }

    /// Copies the payload from a store to the archive, under the record's key. Returns `None` if the store does not
    /// have the payload.
    async fn put(
        &self,
        message: &InternalMessage,
        store: PayloadStore,
    ) -> Result<Option<ArchivedObject>, CopyError> {
        let payload = self.source(message.message_id, store).await.map_err(CopyError::Source)?;
        let Some(payload) = payload else { return Ok(None) };
        let (key, now, read_failure) =
            (message.message_id.archive_key(), self.clock.now(), payload.read_failure());
        match self.archive.store(&key, payload, &message.payload, now).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.name == ErrorName::PayloadCorrupted => {
                Err(self.diagnose_corruption(message, error, store).await)
            }
            // The store from which the payload was read has failed, not the archive.
            Err(_) if let Some(cause) = read_failure.error() => {
                let operation = format!("read the payload of record {}", message.message_id);
                Err(CopyError::Source(StageError::new(store.unavailable(), operation).caused_by(cause)))
            }
            Err(error) => Err(CopyError::Archive(error)),
        }
    }

    /// Finds out why the archive reported another digest: the bytes are corrupted in the source store, or they were
    /// altered during the transfer. Only this function hashes the payload, because the archive verifies the digest of
    /// every write.
    async fn diagnose_corruption(
        &self,
        message: &InternalMessage,
        refused: StageError,
        store: PayloadStore,
    ) -> CopyError {
        let (id, promised) = (message.message_id, message.payload.sha256);
        let another_try = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let operation = format!("archive record {id}: the payload was altered on its way to the archive");
            CopyError::Archive(StageError::new(ErrorName::ArchiveUnavailable, operation).caused_by(cause))
        };
        let found = match self.source(id, store).await {
            Ok(Some(payload)) => payload.sha256().await,
            // The payload has left this store since it was read. The next try finds it in the store to which it moved.
            Ok(None) => return another_try(refused.into()),
            Err(error) => return CopyError::Source(error),
        };
        match found {
            Ok(found) if found != promised => {
                warn!(record.id = %id, "a payload has another digest than its receipt");
                let operation = format!(
                    "archive record {id}: its payload has SHA-256 {found}, the receipt has {promised}"
                );
                CopyError::Source(StageError::new(ErrorName::PayloadCorrupted, operation))
            }
            Ok(_) => another_try(refused.into()),
            Err(error) => another_try(error.into()),
        }
    }
}

/// A store that may have a payload that is not archived yet.
#[derive(Clone, Copy)]
enum PayloadStore {
    Cache,
    FailedStore,
}

impl PayloadStore {
    const fn unavailable(self) -> ErrorName {
        match self {
            Self::Cache => ErrorName::CacheUnavailable,
            Self::FailedStore => ErrorName::FailedStoreUnavailable,
        }
    }
}

/// The reason why a payload was not copied from a store to the archive.
enum CopyError {
    /// The source store cannot be read, or its bytes do not have the digest in the receipt.
    Source(StageError),
    /// The archive did not store the payload.
    Archive(StageError),
}

/// Returns the record's object in the archive, or `None` if there is none. An object with another digest or size is an
/// `ArchiveConflict`.
pub(crate) async fn find_verified(
    archive: &impl PayloadArchive,
    message: &InternalMessage,
) -> Result<Option<ArchivedObject>, StageError> {
    let id = message.message_id;
    let Some(object) = archive.find(&id.archive_key()).await? else { return Ok(None) };
    if object.sha256 != message.payload.sha256 || object.size_bytes != message.payload.size_bytes {
        return Err(StageError::new(
            ErrorName::ArchiveConflict,
            format!(
                "archive record {id}: the archive has {} under its key, the receipt has {}",
                object.sha256, message.payload.sha256
            ),
        ));
    }
    Ok(Some(object))
}

#[cfg(test)]
mod tests;
