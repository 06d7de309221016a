//! Metadata: writes the record's item into the index.

use tracing::info;

use crate::{
    clock::Clock, error::StageError, message::InternalMessage, ports::RecordTable, receipt::MetadataReceipt,
};

/// Stores the metadata of `message`. The write is conditional: an item that a first run wrote stays.
pub async fn run(
    table: &impl RecordTable,
    clock: &impl Clock,
    message: &InternalMessage,
) -> Result<MetadataReceipt, StageError> {
    let stored_at = clock.now();
    let meta_data_reference = table.put_received(message, stored_at).await?;
    info!(record.id = %message.message_id, stage = "metadata", "stored metadata");
    Ok(MetadataReceipt { meta_data_reference, stored_at })
}
