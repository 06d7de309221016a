//! A payload cache in memory.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::Store;
use crate::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    message::RedisReference,
    payload_source::{PayloadSource, Pieces, opened_later},
    ports::payload_cache::PayloadCache,
    receipt::Durability,
    record_id::RecordId,
};

failing!(MemoryPayloadCache);

/// A payload cache in memory, at the level `replicated` unless it is told otherwise.
#[derive(Debug, Default)]
pub struct MemoryPayloadCache(Arc<Store<State>>);

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct State {
    entries: BTreeMap<RecordId, Entry>,
    durable: bool,
    capacity: Option<usize>,
    replicas_lag: bool,
    hangs: bool,
    answers_as_empty: bool,
    breaks_off: bool,
    puts: usize,
}

#[derive(Debug)]
struct Entry {
    payload: Bytes,
    persisted: bool,
    /// Whether the replicas have it, too.
    replicated: bool,
}

/// How long what was never accepted is kept.
const EXPIRY: Duration = Duration::from_hours(7 * 24);

impl MemoryPayloadCache {
    /// Makes every put count as [`Durability::Durable`].
    pub fn set_durable(&self) {
        self.0.peek().durable = true;
    }

    /// Limits the bytes of all payloads together; a put beyond the limit is refused. `None` ends that.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.0.peek().capacity = bytes;
    }

    /// Makes every put take effect and never answer.
    pub fn set_hangs(&self, hangs: bool) {
        self.0.peek().hangs = hangs;
    }

    /// Makes every put end unconfirmed: the payload is stored, and the caller is told that it may not be.
    pub fn set_replicas_lag(&self, lag: bool) {
        let mut state = self.0.peek();
        state.replicas_lag = lag;
        if !lag {
            state.entries.values_mut().for_each(|entry| entry.replicated = true);
        }
    }

    /// Loses the primaries, and makes their replicas primaries: what these do not have is gone.
    pub fn fail_over(&self) {
        self.0.peek().entries.retain(|_, entry| entry.replicated);
    }

    /// Answers every read as if there were nothing, and takes no write, as a node does that came up empty before its replica
    /// took over.
    pub fn set_answers_as_empty(&self, empty: bool) {
        self.0.peek().answers_as_empty = empty;
    }

    /// Lets every payload that is read in pieces break off after the first one, as a connection does that dies.
    pub fn set_breaks_off(&self, breaks_off: bool) {
        self.0.peek().breaks_off = breaks_off;
    }

    /// Forgets some payloads, as the loss of all nodes of a shard does.
    pub fn lose(&self, is_lost: impl Fn(RecordId) -> bool) {
        self.0.peek().entries.retain(|id, _| !is_lost(*id));
    }

    /// Forgets every payload, as the loss of all nodes does.
    pub fn lose_everything(&self) {
        self.0.peek().entries.clear();
    }

    /// Forgets every payload that was not persisted, as the passing of seven days does.
    pub fn expire_unaccepted(&self) {
        self.0.peek().entries.retain(|_, entry| entry.persisted);
    }

    /// Forgets every payload that was not persisted and came seven days before `now`, by the time in the record's id.
    pub fn expire(&self, now: Timestamp) {
        self.0.peek().entries.retain(|id, entry| entry.persisted || now.since(id.received_at()) < EXPIRY);
    }

    /// Replaces a payload, as no correct program would.
    pub fn corrupt(&self, id: RecordId, payload: &[u8]) {
        if let Some(entry) = self.0.peek().entries.get_mut(&id) {
            entry.payload = Bytes::copy_from_slice(payload);
        }
    }

    /// Whether there is a payload of this record.
    pub fn holds(&self, id: RecordId) -> bool {
        self.0.peek().entries.contains_key(&id)
    }

    /// Whether there is a payload of this record that the loss of one node leaves.
    pub fn is_replicated(&self, id: RecordId) -> bool {
        self.0.peek().entries.get(&id).is_some_and(|entry| entry.replicated)
    }

    /// Whether there is a payload of this record that does not expire.
    pub fn is_persisted(&self, id: RecordId) -> bool {
        self.0.peek().entries.get(&id).is_some_and(|entry| entry.persisted)
    }

    /// The records that have a payload here.
    pub fn records(&self) -> Vec<RecordId> {
        self.0.peek().entries.keys().copied().collect()
    }

    /// How many puts were attempted.
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

/// A payload as it comes over a network.
fn pieces(payload: &Bytes, breaks_off: bool) -> Pieces {
    let read = if breaks_off { payload.len() / 2 } else { payload.len() };
    let mut pieces: Vec<_> =
        payload[..read].chunks(64 * 1024).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    pieces.extend(breaks_off.then(|| Err(io::ErrorKind::UnexpectedEof.into())));
    stream::iter(pieces).boxed()
}

impl PayloadCache for &MemoryPayloadCache {
    fn reference(&self, id: RecordId) -> RedisReference {
        RedisReference { server: "memory".to_owned(), port: 6379, key: format!("rec:{id}") }
    }

    fn durability(&self) -> Durability {
        if self.0.peek().durable { Durability::Durable } else { Durability::Replicated }
    }

    async fn put(&self, id: RecordId, payload: &[u8]) -> Result<(), StageError> {
        let hangs = self.0.peek().hangs;
        let stored = self.store(id, payload).await;
        if hangs { std::future::pending().await } else { stored }
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        Ok(self.0.open().await?.visible(id).map(|entry| entry.payload.clone()))
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        let Some(payload) = self.payload(id).await? else { return Ok(None) };
        let opened = pieces(&payload, self.0.peek().breaks_off);
        // What is read again is what is there then.
        let store = Arc::clone(&self.0);
        let again = move || {
            let store = Arc::clone(&store);
            opened_later(async move {
                let state = store.open().await?;
                let entry = state.visible(id);
                Ok::<_, StageError>(entry.map(|entry| pieces(&entry.payload, state.breaks_off)))
            })
        };
        Ok(Some(PayloadSource::new(payload.len() as u64, opened, again)))
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
        self.entries.get(&id).filter(|_| !self.answers_as_empty)
    }

    fn check_writable(&self, id: RecordId) -> Result<(), StageError> {
        if self.answers_as_empty {
            let operation = format!("write record {id}: the primary is being replaced");
            return Err(StageError::new(ErrorName::CacheUnavailable, operation));
        }
        Ok(())
    }
}
