//! Aggregate: brings both branches together and completes the record.

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
pub const TRANSIENT: &[ErrorName] = &[ErrorName::TableUnavailable];

/// What the branches of the workflow produced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AggregateInput {
    /// The record.
    pub message: InternalMessage,
    /// The archive stage's receipt.
    pub archive: ArchiveReceipt,
    /// The metadata stage's receipt.
    pub metadata: MetadataReceipt,
}

/// Completes a record: its item gets the final references and state, then the cache forgets the payload, which is
/// archived and verified. Where the cache cannot, the record stays open, and reconcile has the payload forgotten.
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
    if metadata.meta_data_reference.primary_key != id {
        return Err(StageError::new(
            ErrorName::InvalidInput,
            format!("complete record {id}: the metadata receipt is of another record"),
        ));
    }
    let context = &mut message.storage_context;
    context.redis_reference = None;
    context.s3_reference = Some(archive.s3_reference);
    context.meta_data_reference = Some(metadata.meta_data_reference);
    context.persistence.s3 = true;
    context.persistence.meta_data = true;

    let times = CompletionTimes { archived_at: archive.archived_at, completed_at: clock.now() };
    // The item's own time, where this stage wrote it before: whoever announces the record announces the same.
    let completed_at = table.complete(&message, times).await?.completed_at;
    // Also a payload that the cache did not confirm may be in it.
    let unlinked = cache.unlink(id).await.inspect_err(|error| {
        warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the cached payload to reconcile");
    });
    info!(record.id = %id, stage = "aggregate", "completed record");
    Ok(FinalRecord { message, completed_at, unlinked: unlinked.is_ok() })
}
