//! The audit's reads of the record table: what each item reports of its record's payload, page by page.

use std::{collections::BTreeMap, fmt};

use aws_sdk_dynamodb::types::AttributeValue;
use custody_core::{
    clock::Timestamp,
    digest::Sha256,
    error::{ErrorName, StageError},
    ports::ItemState,
    record_id::RecordId,
    stored_names::attributes::{
        ARCHIVED_AT, COMPLETED_AT, DISCARDED, FAILED_AT, FAILURE, MESSAGE_ID, METADATA_STORED_AT, PAYLOAD,
        STATUS, STORAGE_CONTEXT,
    },
};

use crate::{
    classify::stage_error,
    conditional_write::Attributes,
    dynamodb::stored_digest,
    item_batches::items_of,
    item_state::{state, time},
    record_index::RecordIndex,
};

/// Returns the attributes that an audit reads.
fn audited() -> String {
    let attributes = [
        MESSAGE_ID,
        "#status",
        PAYLOAD,
        FAILURE,
        DISCARDED,
        STORAGE_CONTEXT,
        METADATA_STORED_AT,
        ARCHIVED_AT,
        COMPLETED_AT,
        FAILED_AT,
    ];
    attributes.join(", ")
}

/// What an item reports of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedItem {
    /// The record.
    pub id: RecordId,
    /// The digest of its payload.
    pub sha256: Sha256,
    /// The size of its payload.
    pub size_bytes: u64,
    /// The state of the record.
    pub state: ItemState,
    /// The time of the record's last failure. `None` if it never failed.
    pub failed_at: Option<Timestamp>,
    /// The time when a person discarded the record. `None` if nobody has discarded it.
    pub discarded_at: Option<Timestamp>,
    /// Whether the failure in the item reports that the payload is archived or preserved.
    pub is_secure: bool,
}

/// One page of the table, in no order.
#[derive(Debug, Default)]
pub struct AuditedPage {
    /// The items.
    pub items: Vec<AuditedItem>,
    /// The keys of the items that are not in the expected format.
    pub unreadable: Vec<String>,
    /// The position of the next page. `None` after the last page.
    pub next: Option<Cursor>,
}

/// A position in the table between two pages.
#[derive(Clone, PartialEq)]
pub struct Cursor(Attributes);

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cursor").field(&key(&self.0)).finish()
    }
}

impl RecordIndex {
    /// Reads the page of the table that begins at `cursor`, or the first page. A page is at most 1 MB of items, read
    /// consistently.
    pub async fn audit_page(&self, cursor: Option<Cursor>) -> Result<AuditedPage, StageError> {
        let page = self
            .client
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .projection_expression(audited())
            .expression_attribute_names("#status", STATUS)
            .set_exclusive_start_key(cursor.map(|cursor| cursor.0))
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, "scan the record table"))?;
        let next = page.last_evaluated_key.map(Cursor);
        let mut audited = AuditedPage { next, ..AuditedPage::default() };
        for item in page.items.unwrap_or_default() {
            match decode(&item) {
                Some(item) => audited.items.push(item),
                None => audited.unreadable.push(key(&item)),
            }
        }
        Ok(audited)
    }

    /// Reads the items of these records consistently. The result omits records without a readable item.
    pub async fn audit_items(
        &self,
        records: &[RecordId],
    ) -> Result<BTreeMap<RecordId, AuditedItem>, StageError> {
        let items = items_of(&self.client, &self.table, records, &audited()).await?;
        Ok(items.iter().filter_map(decode).map(|item| (item.id, item)).collect())
    }
}

fn key(item: &Attributes) -> String {
    item.get(MESSAGE_ID).and_then(|id| id.as_s().ok()).cloned().unwrap_or_default()
}

fn decode(item: &Attributes) -> Option<AuditedItem> {
    let map = |name: &str| item.get(name).and_then(|value| value.as_m().ok());
    let discarded = map(DISCARDED).and_then(|discard| time(discard, "at"));
    let reference = map(FAILURE).and_then(|failure| failure.get("payloadReference"));
    Some(AuditedItem {
        id: key(item).parse().ok()?,
        sha256: Sha256::from_hex(stored_digest(item)?)?,
        size_bytes: map(PAYLOAD)?.get("size")?.as_n().ok()?.parse().ok()?,
        state: state(item),
        failed_at: time(item, FAILED_AT),
        discarded_at: discarded,
        is_secure: reference.is_some_and(AttributeValue::is_m),
    })
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};

    use super::*;

    #[test]
    fn what_the_table_adapter_writes_reads_back_and_anything_else_is_unreadable() {
        let message = samples::message(b"payload");
        let mut item: Attributes = serde_dynamo::to_item(&message).unwrap();
        item.insert("status".to_owned(), AttributeValue::S("FAILED".to_owned()));
        let failure = contract::failure_of(&message);
        item.insert("failedAt".to_owned(), AttributeValue::S(failure.failed_at.to_string()));
        item.insert("failure".to_owned(), serde_dynamo::to_attribute_value(&failure).unwrap());
        let audited = decode(&item).unwrap();
        assert_eq!((audited.id, audited.sha256), (message.message_id, message.payload.sha256));
        assert_eq!((audited.size_bytes, audited.failed_at), (7, Some(failure.failed_at)));
        assert_eq!(audited.state, ItemState::Failed { attempt: failure.attempt, discarded: None });
        assert_eq!(audited.is_secure, failure.payload_reference.is_some());
        item.remove("payload");
        assert_eq!(decode(&item), None);
    }
}
