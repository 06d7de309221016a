//! Archive: moves a payload from the cache into the archive.

use tracing::info;

use crate::{
    clock::Clock,
    error::{ErrorName, StageError},
    message::{InternalMessage, S3Reference},
    ports::{PayloadArchive, PayloadCache},
    receipt::ArchiveReceipt,
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[ErrorName::CacheUnavailable, ErrorName::ArchiveUnavailable];

/// Archives the payload of `message`. Its key derives from the record's id and the write is conditional, so
/// running twice, late or concurrently leaves one object.
pub async fn run(
    cache: &impl PayloadCache,
    archive: &impl PayloadArchive,
    clock: &impl Clock,
    message: &InternalMessage,
) -> Result<ArchiveReceipt, StageError> {
    let id = message.message_id;
    let cached = match message.storage_context.redis_reference {
        Some(_) => cache.payload(id).await?,
        // Ingest archived the payload itself, because the cache could not take it.
        None => None,
    };
    let s3_reference = match cached {
        Some(payload) => {
            let actual = payload.sha256;
            if actual != message.payload.sha256 {
                return Err(StageError::new(
                    ErrorName::PayloadCorrupted,
                    format!(
                        "archive record {id}: the cached payload has SHA-256 {actual}, the receipt says {}",
                        message.payload.sha256
                    ),
                ));
            }
            archive.store(&id.archive_key(), payload.bytes, &message.payload).await?
        }
        // Nothing in the cache is the normal case of a late repetition, too.
        None => confirm(archive, message).await?.ok_or_else(|| {
            StageError::new(
                ErrorName::PayloadMissing,
                format!("archive record {id}: the payload is neither in the cache nor in the archive"),
            )
        })?,
    };
    info!(record.id = %id, stage = "archive", size_bytes = message.payload.size_bytes, "archived payload");
    Ok(ArchiveReceipt {
        s3_reference,
        sha256: message.payload.sha256,
        size_bytes: message.payload.size_bytes,
        archived_at: clock.now(),
    })
}

/// The record's object in the archive, when it is there with the record's digest.
pub(crate) async fn confirm(
    archive: &impl PayloadArchive,
    message: &InternalMessage,
) -> Result<Option<S3Reference>, StageError> {
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
    Ok(Some(object.reference))
}
