//! Reads the state of a record from its item in the record table, or from a projection of its item.

use custody_core::{
    clock::Timestamp,
    message::StorageContext,
    ports::{CompletedItem, CompletionTimes, ItemState, NotedDiscard},
    stored_names::attributes::{
        ARCHIVED_AT, ATTEMPT, COMPLETED_AT, DISCARDED, FAILURE, METADATA_STORED_AT, STATUS, STORAGE_CONTEXT,
    },
};

use crate::conditional_write::Attributes;

/// Returns the field `attempt` of one of an item's maps.
fn number(item: &Attributes, map: &str) -> Option<u32> {
    item.get(map)?.as_m().ok()?.get(ATTEMPT)?.as_n().ok()?.parse().ok()
}

/// Returns the state of a record from its item, or from a projection of its item.
pub(crate) fn state(item: &Attributes) -> ItemState {
    match item.get(STATUS).and_then(|status| status.as_s().ok()).map(String::as_str) {
        Some("COMPLETED") => ItemState::Completed(completed(item)),
        Some("FAILED") => {
            let attempt = number(item, FAILURE).unwrap_or(1);
            // A discard decides only about the attempt that it names and earlier ones. A later failure is undecided.
            let noted: Option<NotedDiscard> =
                item.get(DISCARDED).and_then(|note| serde_dynamo::from_attribute_value(note.clone()).ok());
            ItemState::Failed { attempt, discarded: noted.filter(|noted| noted.attempt >= attempt) }
        }
        _ => ItemState::Received,
    }
}

/// Returns the values of a completed item that its announcements report.
fn completed(item: &Attributes) -> CompletedItem {
    let context: StorageContext = item
        .get(STORAGE_CONTEXT)
        .and_then(|context| serde_dynamo::from_attribute_value(context.clone()).ok())
        .unwrap_or_default();
    // Defaults only: every completed item has these times, because they are written together with the state or before
    // it.
    let epoch = Timestamp::from_unix_ms(0).expect("the epoch is in range");
    let completed_at = time(item, COMPLETED_AT).unwrap_or(epoch);
    CompletedItem {
        s3_reference: context.s3_reference,
        metadata_reference: context.metadata_reference,
        stored_at: time(item, METADATA_STORED_AT).unwrap_or(completed_at),
        times: CompletionTimes { archived_at: time(item, ARCHIVED_AT).unwrap_or(completed_at), completed_at },
    }
}

/// Returns the time in an attribute of an item.
pub(crate) fn time(item: &Attributes, name: &str) -> Option<Timestamp> {
    Timestamp::parse(item.get(name)?.as_s().ok()?)
}
