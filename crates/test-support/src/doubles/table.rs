//! An index in memory.

use std::collections::BTreeMap;

use custody_core::{
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::{ErrorName, StageError},
    message::{InternalMessage, MetaDataReference},
    ports::{CompletionTimes, FailedItem, ItemState, RecordTable},
    record_id::RecordId,
};

use super::Store;

failing!(MemoryTable);

/// An index in memory.
#[derive(Debug, Default)]
pub struct MemoryTable(Store<BTreeMap<RecordId, Item>>);

/// An item of a [`MemoryTable`].
#[derive(Clone, Debug)]
pub struct Item {
    /// The message as last written.
    pub message: InternalMessage,
    /// Where the record is in its life.
    pub status: &'static str,
    /// When it was completed.
    pub completion: Option<CompletionTimes>,
    /// Why it failed.
    pub failure: Option<FailureSummary>,
    /// Whether an operator gave it up.
    pub discarded: bool,
}

impl MemoryTable {
    /// All items.
    pub fn items(&self) -> BTreeMap<RecordId, Item> {
        self.0.peek().clone()
    }

    /// Notes that an operator gave a record up.
    pub fn discard(&self, id: RecordId) {
        if let Some(item) = self.0.peek().get_mut(&id) {
            item.discarded = true;
        }
    }

    /// The item of a record.
    pub fn item(&self, id: RecordId) -> Option<Item> {
        self.0.peek().get(&id).cloned()
    }
}

impl RecordTable for &MemoryTable {
    async fn put_received(
        &self,
        message: &InternalMessage,
        _: Timestamp,
    ) -> Result<MetaDataReference, StageError> {
        let id = message.message_id;
        let mut items = self.0.open()?;
        let item = items.entry(id).or_insert_with(|| Item {
            message: message.clone(),
            status: "RECEIVED",
            completion: None,
            failure: None,
            discarded: false,
        });
        if item.message.payload.sha256 != message.payload.sha256 {
            return Err(StageError::new(
                ErrorName::MetadataConflict,
                format!("store item {id}: it exists and differs"),
            ));
        }
        Ok(MetaDataReference { table: "memory".to_owned(), primary_key: id })
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        let id = message.message_id;
        let mut items = self.0.open()?;
        let Some(item) =
            items.get_mut(&id).filter(|item| item.message.payload.sha256 == message.payload.sha256)
        else {
            return Err(StageError::new(ErrorName::ItemMissing, format!("complete item {id}")));
        };
        if item.status != "COMPLETED" {
            item.message.storage_context = message.storage_context.clone();
            item.status = "COMPLETED";
            item.completion = Some(times);
        }
        Ok(item.completion.unwrap_or(times))
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        let mut items = self.0.open()?;
        let item = items.entry(message.message_id).or_insert_with(|| Item {
            message: message.clone(),
            status: "FAILED",
            completion: None,
            failure: None,
            discarded: false,
        });
        if item.message.payload.sha256 != message.payload.sha256 {
            let operation = format!("mark item {} as failed: it is of another payload", message.message_id);
            return Err(StageError::new(ErrorName::MetadataConflict, operation));
        }
        if item.status == "COMPLETED" {
            return Ok(FailedItem::AlreadyCompleted);
        }
        if item.failure.as_ref().is_some_and(|known| known.attempt > failure.attempt) {
            return Ok(FailedItem::Superseded);
        }
        item.status = "FAILED";
        item.message.storage_context = message.storage_context.clone();
        item.failure = Some(failure.clone());
        Ok(FailedItem::Marked)
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        let items = self.0.open()?;
        let states = records.iter().filter_map(|id| {
            let item = items.get(id)?;
            let state = match (item.status, &item.failure) {
                ("COMPLETED", _) => ItemState::Completed,
                ("FAILED", Some(failure)) => {
                    ItemState::Failed { attempt: failure.attempt, discarded: item.discarded }
                }
                _ => ItemState::Received,
            };
            Some((*id, state))
        });
        Ok(states.collect())
    }
}
