//! Metadata: writes the record's item to the record table.

use tracing::info;

use crate::{
    clock::Clock,
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::RecordTable,
    receipt::MetadataReceipt,
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[ErrorName::NewerSchemaVersion, ErrorName::TableUnavailable];

/// Stores the metadata of `message`. The write is conditional: an existing item stays unchanged, with its own time.
pub async fn run(
    table: &impl RecordTable,
    clock: &impl Clock,
    message: &InternalMessage,
) -> Result<MetadataReceipt, StageError> {
    let stored = table.put_received(message, clock.now()).await?;
    info!(record.id = %message.message_id, stage = "metadata", "stored metadata");
    Ok(MetadataReceipt { metadata_reference: stored.reference, stored_at: stored.stored_at })
}
