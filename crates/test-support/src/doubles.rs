//! In-memory doubles. They model the conditional semantics of the real services, and each can be told to fail.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    content::{Content, Digested},
    dead_letter::{DeadLetter, FailureSummary},
    digest::Sha256,
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, RedisReference, S3Reference},
    notification::Notification,
    ports::{
        ArchivedObject, CompletionTimes, DeadLetters, FailedItem, FailedStore, FailureHandler,
        IdempotencyClaims, ItemState, Notifier, Outcome, PayloadArchive, PayloadCache, PendingMarkers,
        PendingRun, PendingRuns, RecordTable, Redrives, Salvage, Start, Workflow,
    },
    receipt::Durability,
    record_id::RecordId,
    rejected_request::RejectedRequest,
    run::Run,
    stages::failure::{FailedRecord, FailureReceipt},
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
    MemoryRedrives,
    MemoryFailureHandler,
    MemoryNotifier
);

/// A cache in memory.
#[derive(Debug, Default)]
pub struct MemoryCache(Store<CacheState>);

/// What a [`MemoryCache`] holds.
#[derive(Debug, Default)]
struct CacheState {
    records: BTreeMap<RecordId, CachedRecord>,
    pending: BTreeMap<Run, Timestamp>,
    claims: BTreeMap<IdempotencyKey, Claim>,
}

#[derive(Debug)]
struct CachedRecord {
    message: InternalMessage,
    payload: Bytes,
    /// Whether it is to expire.
    settled: bool,
}

impl MemoryCache {
    /// All pending runs.
    pub fn pending_runs(&self) -> Vec<Run> {
        self.0.peek().pending.keys().copied().collect()
    }

    /// Whether a record is pending here.
    pub fn is_pending(&self, id: RecordId) -> bool {
        self.0.peek().pending.keys().any(|run| run.record == id)
    }

    /// The messages of pending records.
    pub fn pending_messages(&self) -> Vec<InternalMessage> {
        let state = self.0.peek();
        let messages = state.pending.keys().filter_map(|run| state.records.get(&run.record));
        messages.map(|record| record.message.clone()).collect()
    }

    /// Replaces a payload, as no correct program would.
    pub fn corrupt(&self, id: RecordId, payload: &[u8]) {
        if let Some(record) = self.0.peek().records.get_mut(&id) {
            record.payload = Bytes::copy_from_slice(payload);
        }
    }

    /// Forgets a record, as an expiry does. Its pending entry stays.
    pub fn expire(&self, id: RecordId) {
        self.0.peek().records.remove(&id);
    }

    /// Forgets what was settled, as the end of the grace time does.
    pub fn expire_settled(&self) {
        self.0.peek().records.retain(|_, record| !record.settled);
    }

    /// Makes a pending entry without a record, as no correct program would.
    pub fn plant_pending(&self, run: Run, since: Timestamp) {
        self.0.peek().pending.insert(run, since);
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

    async fn put(
        &self,
        message: &InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), StageError> {
        let mut state = self.0.open()?;
        let known = state.records.get(&message.message_id).map(|record| record.message.run());
        if known.is_some_and(|known| known > message.run()) {
            return Ok(());
        }
        let message = message.with_payload(payload);
        let record = CachedRecord { message: message.clone(), payload: payload.to_bytes(), settled: false };
        state.records.insert(message.message_id, record);
        state.pending.insert(message.run(), message.pending_since());
        if let Some(key) = key {
            let claim = Claim::new(message.message_id, &message.payload).stored(Durability::Replicated);
            state.claims.insert(*key, claim);
        }
        Ok(())
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Digested>, StageError> {
        Ok(self.0.open()?.records.get(&id).map(|record| record.payload.clone().into()))
    }

    async fn settle(&self, run: Run) -> Result<(), StageError> {
        let mut state = self.0.open()?;
        state.pending.remove(&run);
        if let Some(record) = state.records.get_mut(&run.record).filter(|record| record.message.run() <= run)
        {
            record.settled = true;
        }
        Ok(())
    }

    async fn extend(&self, _: &[RecordId]) -> Result<(), StageError> {
        self.0.open().map(drop)
    }
}

impl PendingRuns for &MemoryCache {
    async fn pending(&self, limit: usize) -> Result<Vec<PendingRun>, StageError> {
        let state = self.0.open()?;
        Ok(state
            .pending
            .iter()
            .take(limit)
            .map(|(run, since)| PendingRun { run: *run, since: *since })
            .collect())
    }

    async fn message(&self, run: Run) -> Result<Option<InternalMessage>, StageError> {
        Ok(self.0.open()?.records.get(&run.record).map(|record| record.message.clone()))
    }
}

impl IdempotencyClaims for &MemoryCache {
    async fn claim(&self, key: &IdempotencyKey, claim: &Claim) -> Result<Claim, StageError> {
        Ok(self.0.open()?.claims.entry(*key).or_insert_with(|| claim.clone()).clone())
    }

    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        Ok(self.0.open()?.claims.get(key).cloned())
    }

    async fn confirm(&self, key: &IdempotencyKey, claim: &Claim) -> Result<(), StageError> {
        self.0.open()?.claims.insert(*key, claim.clone());
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

/// Pending markers in memory, with the claims of a time without a cache.
#[derive(Debug, Default)]
pub struct MemoryMarkers(Store<MarkerState>);

#[derive(Debug, Default)]
struct MarkerState {
    markers: BTreeMap<Run, InternalMessage>,
    claims: BTreeMap<IdempotencyKey, Claim>,
}

impl MemoryMarkers {
    /// The marked records.
    pub fn marked(&self) -> Vec<RecordId> {
        self.0.peek().markers.keys().map(|run| run.record).collect()
    }
}

impl PendingMarkers for &MemoryMarkers {
    async fn mark(&self, message: &InternalMessage) -> Result<(), StageError> {
        self.0.open()?.markers.entry(message.run()).or_insert_with(|| message.clone());
        Ok(())
    }

    async fn clear(&self, run: Run) -> Result<(), StageError> {
        self.0.open()?.markers.remove(&run);
        Ok(())
    }
}

impl PendingRuns for &MemoryMarkers {
    async fn pending(&self, limit: usize) -> Result<Vec<PendingRun>, StageError> {
        let state = self.0.open()?;
        let pending = state
            .markers
            .iter()
            .map(|(run, message)| PendingRun { run: *run, since: message.pending_since() });
        Ok(pending.take(limit).collect())
    }

    async fn message(&self, run: Run) -> Result<Option<InternalMessage>, StageError> {
        Ok(self.0.open()?.markers.get(&run).cloned())
    }
}

impl IdempotencyClaims for &MemoryMarkers {
    async fn claim(&self, key: &IdempotencyKey, claim: &Claim) -> Result<Claim, StageError> {
        Ok(self.0.open()?.claims.entry(*key).or_insert_with(|| claim.clone()).clone())
    }

    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        Ok(self.0.open()?.claims.get(key).cloned())
    }

    /// The first confirmation stays: objects are written once.
    async fn confirm(&self, key: &IdempotencyKey, claim: &Claim) -> Result<(), StageError> {
        let mut state = self.0.open()?;
        if state.claims.get(key).is_none_or(|known| known.durability.is_none()) {
            state.claims.insert(*key, claim.clone());
        }
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

/// A workflow that only notes what was started, and says of it what it was told to.
#[derive(Debug, Default)]
pub struct MemoryWorkflow(Store<WorkflowState>);

#[derive(Debug, Default)]
struct WorkflowState {
    started: BTreeMap<Run, InternalMessage>,
    outcomes: BTreeMap<Run, Outcome>,
    questions: usize,
}

impl MemoryWorkflow {
    /// The inputs of all executions.
    pub fn started(&self) -> Vec<InternalMessage> {
        self.0.peek().started.values().cloned().collect()
    }

    /// Lets the execution of a run come to this.
    pub fn end(&self, run: Run, outcome: Outcome) {
        self.0.peek().outcomes.insert(run, outcome);
    }

    /// How many times an outcome was asked for.
    pub fn questions(&self) -> usize {
        self.0.peek().questions
    }
}

impl Workflow for &MemoryWorkflow {
    async fn start(&self, message: &InternalMessage) -> Result<Start, StageError> {
        let mut state = self.0.open()?;
        if state.started.contains_key(&message.run()) {
            return Ok(Start::Existed);
        }
        state.started.insert(message.run(), message.clone());
        Ok(Start::Started)
    }

    async fn outcome(&self, run: Run) -> Result<Option<Outcome>, StageError> {
        let mut state = self.0.open()?;
        state.questions += 1;
        let known = state.outcomes.get(&run).cloned();
        Ok(state.started.contains_key(&run).then(|| known.unwrap_or(Outcome::Running)))
    }
}

/// A failure function that only notes what it was told to handle.
#[derive(Debug, Default)]
pub struct MemoryFailureHandler(Store<Vec<FailedRecord>>);

impl MemoryFailureHandler {
    /// What it was told to handle.
    pub fn handled(&self) -> Vec<FailedRecord> {
        self.0.peek().clone()
    }
}

impl FailureHandler for &MemoryFailureHandler {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        self.0.open()?.push(failed.clone());
        Ok(FailureReceipt {
            message_id: Some(failed.message.message_id),
            payload_reference: None,
            failed_at: failed.message.received_at,
            finished: true,
        })
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
        self.0.open()?.entry(key.to_owned()).or_insert(content);
        Ok(memory_reference(key))
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        Ok(self.0.open()?.get(key).cloned())
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

    /// Takes all messages off the queue.
    pub fn take(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut *self.0.peek())
    }
}

impl DeadLetters for &MemoryDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        self.0.open()?.push(letter.clone());
        Ok(())
    }
}

/// A redrive queue in memory.
#[derive(Debug, Default)]
pub struct MemoryRedrives(Store<Vec<(DeadLetter, Duration)>>);

impl MemoryRedrives {
    /// Takes all letters off the queue.
    pub fn take(&self) -> Vec<(DeadLetter, Duration)> {
        std::mem::take(&mut *self.0.peek())
    }

    /// The letters on the queue, each with its delay.
    pub fn scheduled(&self) -> Vec<(DeadLetter, Duration)> {
        self.0.peek().clone()
    }
}

impl Redrives for &MemoryRedrives {
    async fn schedule(&self, letter: &DeadLetter, delay: Duration) -> Result<(), StageError> {
        self.0.open()?.push((letter.clone(), delay));
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
