//! Reads many items of the record table at once, by the ids of their records.

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, KeysAndAttributes},
};
use custody_core::{
    error::{ErrorName, StageError},
    record_id::RecordId,
    stored_names::attributes::{MESSAGE_ID, STATUS},
};

use crate::{classify::stage_error, conditional_write::Attributes};

/// The most keys in one request: a limit of `BatchGetItem`.
const MAX_KEYS: usize = 100;

/// The number of requests for the keys of one batch before the table counts as too busy.
const MAX_ROUNDS: usize = 10;

/// Reads the items of these records consistently, with the attributes that `projection` names; `#status` stands for the
/// status. The result has no item of a record that has none.
pub(crate) async fn items_of(
    client: &Client,
    table: &str,
    records: &[RecordId],
    projection: &str,
) -> Result<Vec<Attributes>, StageError> {
    let mut items = Vec::new();
    for batch in records.chunks(MAX_KEYS) {
        read_batch(client, table, batch, projection, &mut items).await?;
    }
    Ok(items)
}

async fn read_batch(
    client: &Client,
    table: &str,
    records: &[RecordId],
    projection: &str,
    items: &mut Vec<Attributes>,
) -> Result<(), StageError> {
    let operation = || format!("read the items of {} records", records.len());
    let key = |id: &RecordId| (MESSAGE_ID.to_owned(), AttributeValue::S(id.to_string()));
    let mut keys: Vec<_> = records.iter().map(|id| Attributes::from([key(id)])).collect();
    for _ in 0..MAX_ROUNDS {
        if keys.is_empty() {
            return Ok(());
        }
        let request = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .projection_expression(projection)
            .expression_attribute_names("#status", STATUS)
            .build()
            .map_err(|error| StageError::new(ErrorName::InvalidInput, operation()).caused_by(error))?;
        let read = client.batch_get_item().request_items(table, request).send().await;
        let read = read.map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        items.extend(read.responses.and_then(|mut tables| tables.remove(table)).unwrap_or_default());
        // Keys that DynamoDB did not process, because the answer was too large or the table was busy, are requested
        // again.
        let unprocessed = read.unprocessed_keys.and_then(|mut tables| tables.remove(table));
        keys = unprocessed.map(|request| request.keys).unwrap_or_default();
    }
    Err(StageError::new(ErrorName::TableUnavailable, operation()))
}
