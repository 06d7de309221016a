//! The double of the record table.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::{ErrorName, StageError},
    message::{InternalMessage, MetadataReference},
    ports::{
        CompletedItem, CompletionTimes, Discard, FailedItem, ItemState, NotedDiscard, RecordQueries,
        RecordTable, StoredMetadata,
    },
    record_id::RecordId,
    record_query::{IndexedRecord, Lookup, PageRequest, PartitionPage, RecordItem, RecordPage},
};

use super::Store;

failing!(MemoryTable);

/// A record table in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryTable(Arc<Store<BTreeMap<RecordId, Item>>>);

/// An item of a [`MemoryTable`].
#[derive(Clone, Debug)]
pub struct Item {
    /// The message of the last write.
    pub message: InternalMessage,
    /// The state of the record: `RECEIVED`, `COMPLETED` or `FAILED`.
    pub status: &'static str,
    /// The time when the metadata was stored.
    pub stored_at: Option<Timestamp>,
    /// The times of the record's completion.
    pub completion: Option<CompletionTimes>,
    /// The failure of the last failed attempt.
    pub failure: Option<FailureSummary>,
    /// The number of the attempt that an operator discarded.
    pub discarded: Option<u32>,
    /// The last decision to discard the record.
    pub discard: Option<Discard>,
    /// When `custody rebuild` made the item again.
    pub rebuilt_at: Option<Timestamp>,
}

impl Item {
    fn new(message: &InternalMessage, status: &'static str, stored_at: Option<Timestamp>) -> Self {
        let message = message.clone();
        Self {
            message,
            status,
            stored_at,
            completion: None,
            failure: None,
            discarded: None,
            discard: None,
            rebuilt_at: None,
        }
    }

    fn noted_discard(&self) -> Option<NotedDiscard> {
        let (attempt, discard) = self.discarded.zip(self.discard.clone())?;
        Some(NotedDiscard { attempt, discard })
    }

    fn state(&self) -> ItemState {
        let context = &self.message.storage_context;
        match (self.completion, &self.failure) {
            (Some(times), _) => ItemState::Completed(CompletedItem {
                s3_reference: context.s3_reference.clone(),
                metadata_reference: context.metadata_reference.clone(),
                stored_at: self.stored_at.unwrap_or(times.completed_at),
                times,
            }),
            (None, Some(failure)) => ItemState::Failed {
                attempt: failure.attempt,
                discarded: self.noted_discard().filter(|noted| noted.attempt >= failure.attempt),
            },
            (None, None) => ItemState::Received,
        }
    }
}

impl MemoryTable {
    /// Loses the items for which `keep` is false.
    pub fn lose_all_but(&self, keep: impl Fn(&Item) -> bool) {
        self.0.peek().retain(|_, item| keep(item));
    }

    /// Returns all items.
    pub fn items(&self) -> BTreeMap<RecordId, Item> {
        self.0.peek().clone()
    }

    /// Returns the item of a record.
    pub fn item(&self, id: RecordId) -> Option<Item> {
        self.0.peek().get(&id).cloned()
    }
}

impl RecordTable for MemoryTable {
    async fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> Result<StoredMetadata, StageError> {
        let id = message.message_id;
        let mut items = self.0.open().await?;
        let item = items.entry(id).or_insert_with(|| {
            let mut item = Item::new(message, "RECEIVED", Some(stored_at));
            item.message.redrive = None;
            item
        });
        if item.message.payload.sha256 != message.payload.sha256 {
            return Err(StageError::new(
                ErrorName::MetadataConflict,
                format!("store item {id}: it exists and differs"),
            ));
        }
        let stored_at = *item.stored_at.get_or_insert(stored_at);
        Ok(StoredMetadata {
            reference: MetadataReference { table: "memory".to_owned(), primary_key: id },
            stored_at,
        })
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        let id = message.message_id;
        let mut items = self.0.open().await?;
        let Some(item) =
            items.get_mut(&id).filter(|item| item.message.payload.sha256 == message.payload.sha256)
        else {
            return Err(StageError::new(ErrorName::ItemMissing, format!("complete item {id}")));
        };
        if item.status != "COMPLETED" {
            item.message.storage_context = message.storage_context.clone();
            item.message.redrive = message.redrive.clone().or_else(|| item.message.redrive.take());
            item.status = "COMPLETED";
        }
        Ok(*item.completion.get_or_insert(times))
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        let mut items = self.0.open().await?;
        let item = items.entry(message.message_id).or_insert_with(|| Item::new(message, "FAILED", None));
        if item.message.payload.sha256 != message.payload.sha256 {
            let operation = format!("mark item {} as failed: it has another payload", message.message_id);
            return Err(StageError::new(ErrorName::MetadataConflict, operation));
        }
        if item.status == "COMPLETED" {
            return Ok(FailedItem::AlreadyCompleted);
        }
        let known = item.failure.as_ref().map_or(0, |known| known.attempt);
        if known > failure.attempt {
            return Ok(FailedItem::Superseded);
        }
        if known < failure.attempt {
            item.status = "FAILED";
            item.message.storage_context = message.storage_context.clone();
            item.message.redrive = message.redrive.clone().or_else(|| item.message.redrive.take());
            item.failure = Some(failure.clone());
        }
        Ok(FailedItem::Failed)
    }

    async fn discard(&self, attempt: Attempt, discard: &Discard) -> Result<bool, StageError> {
        let mut items = self.0.open().await?;
        let item = items.get_mut(&attempt.record).filter(|item| {
            item.status == "FAILED"
                && item.failure.as_ref().is_some_and(|failure| failure.attempt <= attempt.number())
                && item.discarded.is_none_or(|noted| noted < attempt.number())
        });
        Ok(item
            .map(|item| {
                item.discarded = Some(attempt.number());
                item.discard = Some(discard.clone());
            })
            .is_some())
    }

    async fn note_rebuilt(&self, id: RecordId, at: Timestamp) -> Result<(), StageError> {
        let mut items = self.0.open().await?;
        let missing = || StageError::new(ErrorName::ItemMissing, format!("note the rebuild of item {id}"));
        items.get_mut(&id).ok_or_else(missing)?.rebuilt_at.get_or_insert(at);
        Ok(())
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        let items = self.0.open().await?;
        Ok(records.iter().filter_map(|id| Some((*id, items.get(id)?.state()))).collect())
    }
}

impl Item {
    fn indexed(&self) -> IndexedRecord {
        let metadata = &self.message.metadata;
        IndexedRecord {
            message_id: self.message.message_id,
            received_at: self.message.received_at,
            status: self.status.parse().expect("a known status"),
            source_system_id: metadata.source_system_id().to_owned(),
            source_transaction_id: metadata.source_transaction_id().map(str::to_owned),
            message_type: metadata.message_type().to_owned(),
        }
    }
}

impl RecordQueries for MemoryTable {
    async fn item(&self, id: RecordId) -> Result<Option<RecordItem>, StageError> {
        let items = self.0.open().await?;
        Ok(items.get(&id).map(|item| RecordItem {
            message: item.message.clone(),
            status: item.status.parse().expect("a known status"),
            stored_at: item.stored_at,
            archived_at: item.completion.map(|times| times.archived_at),
            completed_at: item.completion.map(|times| times.completed_at),
            failure: item.failure.clone(),
            discarded: item.noted_discard(),
        }))
    }

    async fn page(&self, request: &PageRequest) -> Result<RecordPage, StageError> {
        let items = self.0.open().await?;
        let all = items.values().map(Item::indexed);
        let matching = all.filter(|record| {
            let is_of_lookup = match &request.lookup {
                Lookup::Source(id) => record.source_system_id == *id,
                Lookup::Transaction(id) => record.source_transaction_id.as_ref() == Some(id),
            };
            is_of_lookup && request.range.includes(record.received_at) && request.matches(record)
        });
        let all = PartitionPage { records: matching.collect(), examined_to: None };
        Ok(RecordPage::merge(vec![all], request.limit))
    }
}
