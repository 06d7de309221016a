//! In-memory doubles. They model the conditional semantics of the real services, and each can be told to fail.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    dead_letter::{DeadLetter, FailureSummary},
    digest::Sha256,
    error::{ErrorName, StageError},
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, RedisReference, S3Reference},
    notification::Notification,
    ports::{
        ArchivedObject, CompletionTimes, DeadLetters, FailedItem, FailedStore, Notifier, PayloadArchive,
        PayloadCache, PendingMarkers, RecordTable, Salvage, Workflow,
    },
    record_id::RecordId,
    rejected_request::RejectedRequest,
};

/// Shared state of a double, and the failure it was told to have.
#[derive(Debug, Default)]
struct Store<T> {
    state: Mutex<T>,
    failing: Mutex<Option<ErrorName>>,
}

impl<T> Store<T> {
    fn open(&self) -> Result<MutexGuard<'_, T>, StageError> {
        if let Some(name) = *self.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(StageError::new(name, "use a double that was told to fail"));
        }
        Ok(self.peek())
    }

    fn peek(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail_with(&self, name: Option<ErrorName>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

macro_rules! failing {
    ($($double:ident),*) => {
        $(impl $double {
            /// Every call fails with this error from now on; `None` ends that.
            pub fn fail_with(&self, name: Option<ErrorName>) {
                self.0.fail_with(name);
            }
        })*
    };
}

failing!(
    MemoryCache,
    MemoryArchive,
    MemoryMarkers,
    MemoryTable,
    MemoryWorkflow,
    MemorySalvage,
    MemoryFailedStore,
    MemoryDeadLetters,
    MemoryNotifier
);

/// A cache in memory.
#[derive(Debug, Default)]
pub struct MemoryCache(Store<CacheState>);

/// What a [`MemoryCache`] holds.
#[derive(Debug, Default)]
struct CacheState {
    payloads: BTreeMap<RecordId, Bytes>,
    pending: BTreeMap<RecordId, InternalMessage>,
}

impl MemoryCache {
    /// Whether a record is pending here.
    pub fn is_pending(&self, id: RecordId) -> bool {
        self.0.peek().pending.contains_key(&id)
    }

    /// The message stored beside a pending record.
    pub fn pending(&self) -> Vec<InternalMessage> {
        self.0.peek().pending.values().cloned().collect()
    }

    /// Replaces a payload, as no correct program would.
    pub fn corrupt(&self, id: RecordId, payload: &[u8]) {
        self.0.peek().payloads.insert(id, Bytes::copy_from_slice(payload));
    }

    /// Forgets a payload, as an expiry does.
    pub fn expire(&self, id: RecordId) {
        self.0.peek().payloads.remove(&id);
    }
}

impl PayloadCache for &MemoryCache {
    fn reference(&self, id: RecordId) -> RedisReference {
        RedisReference {
            server: "memory".to_owned(),
            port: 6379,
            key: format!("{{s{:02}}}:rec:{id}", id.shard()),
        }
    }

    async fn put(&self, message: &InternalMessage, payload: &[u8]) -> Result<(), StageError> {
        let mut state = self.0.open()?;
        state.payloads.insert(message.message_id, Bytes::copy_from_slice(payload));
        state.pending.insert(message.message_id, message.clone());
        Ok(())
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        Ok(self.0.open()?.payloads.get(&id).cloned())
    }

    async fn settle(&self, id: RecordId) -> Result<(), StageError> {
        self.0.open()?.pending.remove(&id);
        Ok(())
    }
}

/// An archive in memory.
#[derive(Debug, Default)]
pub struct MemoryArchive(Store<BTreeMap<String, Bytes>>);

impl MemoryArchive {
    /// All objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.peek().clone()
    }

    /// Puts an object there, past every condition.
    pub fn plant(&self, key: &str, content: &[u8]) {
        self.0.peek().insert(key.to_owned(), Bytes::copy_from_slice(content));
    }
}

fn memory_reference(key: &str) -> S3Reference {
    S3Reference { bucket: "memory".to_owned(), key: key.to_owned() }
}

impl PayloadArchive for &MemoryArchive {
    async fn store(
        &self,
        key: &str,
        payload: Bytes,
        descriptor: &PayloadDescriptor,
    ) -> Result<S3Reference, StageError> {
        let mut objects = self.0.open()?;
        if Sha256::of(&payload) != descriptor.sha256 {
            return Err(StageError::new(
                ErrorName::ServiceRefused,
                "store a payload under a digest it does not have",
            ));
        }
        match objects.get(key) {
            Some(existing) if *existing != payload => Err(StageError::new(
                ErrorName::ArchiveConflict,
                format!("store object {key}: it exists and differs"),
            )),
            Some(_) => Ok(memory_reference(key)),
            None => {
                objects.insert(key.to_owned(), payload);
                Ok(memory_reference(key))
            }
        }
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        Ok(self.0.open()?.get(key).map(|content| ArchivedObject {
            reference: memory_reference(key),
            sha256: Sha256::of(content),
            size_bytes: content.len() as u64,
        }))
    }
}

/// Pending markers in memory.
#[derive(Debug, Default)]
pub struct MemoryMarkers(Store<BTreeMap<RecordId, InternalMessage>>);

impl MemoryMarkers {
    /// The marked records.
    pub fn marked(&self) -> Vec<RecordId> {
        self.0.peek().keys().copied().collect()
    }
}

impl PendingMarkers for &MemoryMarkers {
    async fn mark(&self, message: &InternalMessage) -> Result<(), StageError> {
        self.0.open()?.entry(message.message_id).or_insert_with(|| message.clone());
        Ok(())
    }

    async fn clear(&self, id: RecordId) -> Result<(), StageError> {
        self.0.open()?.remove(&id);
        Ok(())
    }
}

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
}

impl MemoryTable {
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
        });
        if item.message.payload.sha256 != message.payload.sha256 {
            return Err(StageError::new(
                ErrorName::MetadataConflict,
                format!("store item {id}: it exists and differs"),
            ));
        }
        Ok(MetaDataReference { table: "memory".to_owned(), primary_key: id })
    }

    async fn complete(&self, message: &InternalMessage, times: CompletionTimes) -> Result<(), StageError> {
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
        Ok(())
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
        });
        if item.message.payload.sha256 != message.payload.sha256 {
            let operation = format!("mark item {} as failed: it is of another payload", message.message_id);
            return Err(StageError::new(ErrorName::MetadataConflict, operation));
        }
        if item.status == "COMPLETED" {
            return Ok(FailedItem::AlreadyCompleted);
        }
        item.status = "FAILED";
        item.message.storage_context = message.storage_context.clone();
        item.failure = Some(failure.clone());
        Ok(FailedItem::Marked)
    }
}

/// A workflow that only notes what was started.
#[derive(Debug, Default)]
pub struct MemoryWorkflow(Store<BTreeMap<RecordId, InternalMessage>>);

impl MemoryWorkflow {
    /// The inputs of all executions.
    pub fn started(&self) -> Vec<InternalMessage> {
        self.0.peek().values().cloned().collect()
    }
}

impl Workflow for &MemoryWorkflow {
    async fn start(&self, message: &InternalMessage) -> Result<(), StageError> {
        self.0.open()?.entry(message.message_id).or_insert_with(|| message.clone());
        Ok(())
    }
}

/// A failure function that only notes what it was given.
#[derive(Debug, Default)]
pub struct MemorySalvage(Store<Vec<String>>);

impl MemorySalvage {
    /// The requests handed over, as JSON text.
    pub fn requests(&self) -> Vec<String> {
        self.0.peek().clone()
    }
}

impl Salvage for &MemorySalvage {
    async fn salvage(&self, request: &RejectedRequest<'_>) -> Result<(), StageError> {
        self.0.open()?.push(request.to_json());
        Ok(())
    }
}

/// A failed-records store in memory.
#[derive(Debug, Default)]
pub struct MemoryFailedStore(Store<BTreeMap<String, Bytes>>);

impl MemoryFailedStore {
    /// All objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.peek().clone()
    }
}

impl FailedStore for &MemoryFailedStore {
    async fn keep(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        self.0.open()?.insert(key.to_owned(), content);
        Ok(memory_reference(key))
    }
}

/// A dead-letter queue in memory.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters(Store<Vec<DeadLetter>>);

impl MemoryDeadLetters {
    /// The messages on the queue.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.0.peek().clone()
    }
}

impl DeadLetters for &MemoryDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        self.0.open()?.push(letter.clone());
        Ok(())
    }
}

/// A topic in memory.
#[derive(Debug, Default)]
pub struct MemoryNotifier(Store<Vec<Notification>>);

impl MemoryNotifier {
    /// What was published.
    pub fn published(&self) -> Vec<Notification> {
        self.0.peek().clone()
    }
}

impl Notifier for &MemoryNotifier {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        self.0.open()?.push(notification.clone());
        Ok(())
    }
}
