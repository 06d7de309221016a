//! The double of the payload cache.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::Store;
use crate::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    message::RedisReference,
    payload_source::{PayloadSource, Pieces, open_on_first_read},
    ports::PayloadCache,
    receipt::Durability,
    record_id::RecordId,
};

failing!(MemoryPayloadCache);

/// A payload cache in memory. Its durability is `replicated` unless a test changes it.
#[derive(Clone, Debug, Default)]
pub struct MemoryPayloadCache(Arc<Store<State>>);

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct State {
    entries: BTreeMap<RecordId, Entry>,
    durable: bool,
    capacity: Option<usize>,
    replicas_lag: bool,
    hangs: bool,
    reports_absence: bool,
    breaks_off: bool,
    puts: usize,
}

#[derive(Debug)]
struct Entry {
    payload: Bytes,
    persisted: bool,
    /// Whether the replicas have the payload, too.
    replicated: bool,
}

/// The time after which a payload expires that was never persisted.
const EXPIRY: Duration = Duration::from_hours(7 * 24);

impl MemoryPayloadCache {
    /// Makes the cache report the durability [`Durability::Durable`].
    pub fn set_durable(&self) {
        self.0.peek().durable = true;
    }

    /// Limits the total size of all payloads. A put beyond the limit fails. `None` removes the limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.0.peek().capacity = bytes;
    }

    /// Makes every put store its payload and never return.
    pub fn set_hangs(&self, hangs: bool) {
        self.0.peek().hangs = hangs;
    }

    /// Makes every put store its payload and then fail, because the replicas do not confirm it. Ending this gives all
    /// payloads to the replicas.
    pub fn set_replicas_lag(&self, lag: bool) {
        let mut state = self.0.peek();
        state.replicas_lag = lag;
        if !lag {
            state.entries.values_mut().for_each(|entry| entry.replicated = true);
        }
    }

    /// Replaces the primaries by their replicas. Payloads that the replicas do not have are lost.
    pub fn fail_over(&self) {
        self.0.peek().entries.retain(|_, entry| entry.replicated);
    }

    /// Makes every read report absence and every write fail, as a node does that restarted empty before its replica
    /// took over.
    pub fn set_reports_absence(&self, empty: bool) {
        self.0.peek().reports_absence = empty;
    }

    /// Makes every read of a payload in pieces fail in the middle, as a lost connection does.
    pub fn set_breaks_off(&self, breaks_off: bool) {
        self.0.peek().breaks_off = breaks_off;
    }

    /// Removes some payloads, as the loss of all nodes of a shard does.
    pub fn lose(&self, is_lost: impl Fn(RecordId) -> bool) {
        self.0.peek().entries.retain(|id, _| !is_lost(*id));
    }

    /// Removes every payload, as the loss of all nodes does.
    pub fn lose_everything(&self) {
        self.0.peek().entries.clear();
    }

    /// Removes every payload that was not persisted, as if seven days had passed.
    pub fn expire_unaccepted(&self) {
        self.0.peek().entries.retain(|_, entry| entry.persisted);
    }

    /// Removes every payload that was not persisted and that arrived at least seven days before `now`, by the time in
    /// the record's id.
    pub fn expire(&self, now: Timestamp) {
        self.0.peek().entries.retain(|id, entry| entry.persisted || now.since(id.received_at()) < EXPIRY);
    }

    /// Replaces a payload, to simulate corruption.
    pub fn corrupt(&self, id: RecordId, payload: &[u8]) {
        if let Some(entry) = self.0.peek().entries.get_mut(&id) {
            entry.payload = Bytes::copy_from_slice(payload);
        }
    }

    /// Returns whether the cache has the payload of this record.
    pub fn holds(&self, id: RecordId) -> bool {
        self.0.peek().entries.contains_key(&id)
    }

    /// Returns whether the replicas have the payload of this record.
    pub fn is_replicated(&self, id: RecordId) -> bool {
        self.0.peek().entries.get(&id).is_some_and(|entry| entry.replicated)
    }

    /// Returns whether the cache has the payload of this record without an expiry.
    pub fn is_persisted(&self, id: RecordId) -> bool {
        self.0.peek().entries.get(&id).is_some_and(|entry| entry.persisted)
    }

    /// Returns the ids of the records that have a payload in the cache.
    pub fn records(&self) -> Vec<RecordId> {
        self.0.peek().entries.keys().copied().collect()
    }

    /// Returns the number of calls of `put`.
    pub fn puts(&self) -> usize {
        self.0.peek().puts
    }

    async fn store(&self, id: RecordId, payload: &[u8]) -> Result<(), StageError> {
        let mut state = self.0.open().await?;
        state.puts += 1;
        let others = state.entries.iter().filter(|(other, _)| **other != id);
        let used: usize = others.map(|(_, entry)| entry.payload.len()).sum();
        let unavailable = |why: &str| {
            Err(StageError::new(ErrorName::CacheUnavailable, format!("cache record {id}: {why}")))
        };
        if state.capacity.is_some_and(|capacity| used + payload.len() > capacity) {
            return unavailable("the cache is full");
        }
        state.check_writable(id)?;
        let bytes = Bytes::copy_from_slice(payload);
        let replicated = !state.replicas_lag;
        state.entries.insert(id, Entry { payload: bytes, persisted: false, replicated });
        if state.replicas_lag {
            return unavailable("the replicas did not confirm it");
        }
        Ok(())
    }
}

/// Returns a payload as a stream of pieces. With `breaks_off`, the stream fails after the first half.
fn pieces(payload: &Bytes, breaks_off: bool) -> Pieces {
    let read = if breaks_off { payload.len() / 2 } else { payload.len() };
    let mut pieces: Vec<_> =
        payload[..read].chunks(64 * 1024).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    pieces.extend(breaks_off.then(|| Err(io::ErrorKind::UnexpectedEof.into())));
    stream::iter(pieces).boxed()
}

impl PayloadCache for MemoryPayloadCache {
    fn reference(&self, id: RecordId) -> RedisReference {
        RedisReference { server: "memory".to_owned(), port: 6379, key: id.cache_key() }
    }

    fn durability(&self) -> Durability {
        if self.0.peek().durable { Durability::Durable } else { Durability::Replicated }
    }

    async fn put(&self, id: RecordId, payload: Bytes) -> Result<(), StageError> {
        let hangs = self.0.peek().hangs;
        let stored = self.store(id, &payload).await;
        if hangs { std::future::pending().await } else { stored }
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        Ok(self.0.open().await?.visible(id).map(|entry| entry.payload.clone()))
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        let Some(payload) = self.payload(id).await? else { return Ok(None) };
        // Each read returns the payload that the cache has when the read begins: the payload may go after it was found.
        let store = Arc::clone(&self.0);
        let read = move || {
            let store = Arc::clone(&store);
            open_on_first_read(async move {
                let state = store.open().await?;
                let entry = state.visible(id);
                Ok::<_, StageError>(entry.map(|entry| pieces(&entry.payload, state.breaks_off)))
            })
        };
        Ok(Some(PayloadSource::new(payload.len() as u64, read(), read)))
    }

    async fn size(&self, id: RecordId) -> Result<Option<u64>, StageError> {
        Ok(self.0.open().await?.visible(id).map(|entry| entry.payload.len() as u64))
    }

    async fn persist(&self, id: RecordId) -> Result<bool, StageError> {
        let mut state = self.0.open().await?;
        state.check_writable(id)?;
        let entry = state.entries.get_mut(&id);
        Ok(entry.map(|entry| entry.persisted = true).is_some())
    }

    async fn unlink(&self, id: RecordId) -> Result<(), StageError> {
        let mut state = self.0.open().await?;
        state.check_writable(id)?;
        state.entries.remove(&id);
        Ok(())
    }
}

impl State {
    fn visible(&self, id: RecordId) -> Option<&Entry> {
        self.entries.get(&id).filter(|_| !self.reports_absence)
    }

    fn check_writable(&self, id: RecordId) -> Result<(), StageError> {
        if self.reports_absence {
            let operation = format!("write record {id}: the primary is being replaced");
            return Err(StageError::new(ErrorName::CacheUnavailable, operation));
        }
        Ok(())
    }
}
