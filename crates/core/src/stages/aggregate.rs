//! Aggregate: brings both branches together and completes the record.

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    clock::Clock,
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{CompletionTimes, PayloadCache, PendingMarkers, RecordTable},
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
    run::Run,
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

/// Completes a record: its item gets the final references and state, then the cache lets it go.
pub async fn run(
    table: &impl RecordTable,
    cache: &impl PayloadCache,
    markers: &impl PendingMarkers,
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
    let run = message.run();
    let was_marked = message.storage_context.redis_reference.is_none();
    let context = &mut message.storage_context;
    context.redis_reference = None;
    context.s3_reference = Some(archive.s3_reference);
    context.meta_data_reference = Some(metadata.meta_data_reference);
    context.persistence.s3 = true;
    context.persistence.meta_data = true;

    let times = CompletionTimes { archived_at: archive.archived_at, completed_at: clock.now() };
    // The item's own time, where an earlier run of this stage wrote it: whatever announces it says the same.
    let completed_at = table.complete(&message, times).await?.completed_at;

    // The record is complete whatever happens from here on. A pending entry that stays is cleared by reconcile.
    settle(cache, markers, run, was_marked).await;
    info!(record.id = %id, stage = "aggregate", "completed record");
    Ok(FinalRecord { message, completed_at })
}

/// Lets cache and markers forget a record that has reached its end. Only a record that went past the cache has a
/// marker; the cache is told in any case, because a record that it did not confirm may be in it.
pub(crate) async fn settle(
    cache: &impl PayloadCache,
    markers: &impl PendingMarkers,
    run: Run,
    was_marked: bool,
) {
    if let Err(error) = cache.settle(run).await {
        warn!(record.id = %run.record, error.name = error.name.as_str(), %error, "left the pending entry to reconcile");
    }
    if !was_marked {
        return;
    }
    if let Err(error) = markers.clear(run).await {
        warn!(record.id = %run.record, error.name = error.name.as_str(), %error, "left the pending marker to reconcile");
    }
}
