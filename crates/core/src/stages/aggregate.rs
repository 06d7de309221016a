//! Aggregate: combines the results of both branches and completes the record.

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    clock::Clock,
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{CompletionTimes, PayloadCache, RecordTable},
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[ErrorName::NewerSchemaVersion, ErrorName::TableUnavailable];

/// The results of the workflow's branches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AggregateInput {
    /// The message of the record.
    pub message: InternalMessage,
    /// The archive stage's receipt.
    pub archive: ArchiveReceipt,
    /// The metadata stage's receipt.
    pub metadata: MetadataReceipt,
}

/// Completes a record: writes the final references and the state `COMPLETED` to its item, then removes the payload from
/// the cache, because the payload is archived and verified. If the cache fails, the record stays open, and reconcile
/// removes the payload.
pub async fn run(
    table: &impl RecordTable,
    cache: &impl PayloadCache,
    clock: &impl Clock,
    input: AggregateInput,
) -> Result<FinalRecord, StageError> {
    let AggregateInput { mut message, archive, metadata } = input;
    let id = message.message_id;
    if archive.sha256 != message.payload.sha256 || archive.s3_reference.key != id.archive_key() {
        return Err(StageError::new(
            ErrorName::InvalidInput,
            format!("complete record {id}: the archive receipt is of another payload"),
        ));
    }
    if metadata.metadata_reference.primary_key != id {
        return Err(StageError::new(
            ErrorName::InvalidInput,
            format!("complete record {id}: the metadata receipt is of another record"),
        ));
    }
    let context = &mut message.storage_context;
    context.redis_reference = None;
    context.s3_reference = Some(archive.s3_reference);
    context.metadata_reference = Some(metadata.metadata_reference);
    context.persistence.s3 = true;
    context.persistence.metadata = true;

    let times = CompletionTimes { archived_at: archive.archived_at, completed_at: clock.now() };
    // If this stage has completed the item before, this is the item's own time, so that all announcements of the record
    // have the same content.
    let completed_at = table.complete(&message, times).await?.completed_at;
    // The cache may have the payload even if it did not confirm the write.
    let unlinked = cache.unlink(id).await.inspect_err(|error| {
        warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the cached payload to reconcile");
    });
    info!(record.id = %id, stage = "aggregate", "completed record");
    Ok(FinalRecord { message, completed_at, unlinked: unlinked.is_ok() })
}
