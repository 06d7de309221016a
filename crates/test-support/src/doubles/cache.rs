//! A cache in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    content::{Content, Digested},
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, RedisReference},
    ports::{IdempotencyClaims, PayloadCache, PendingRun, PendingRuns},
    receipt::Durability,
    record_id::RecordId,
    run::Run,
};

use super::Store;

failing!(MemoryCache);

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
