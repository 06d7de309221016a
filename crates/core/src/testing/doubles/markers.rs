//! The double of the acceptance markers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    attempt::Attempt,
    error::{ErrorName, StageError},
    open_record::OpenRecord,
    ports::AcceptanceMarkers,
    record_id::RecordId,
};

use super::Store;

failing!(MemoryMarkers);

/// Acceptance markers in memory, and the attempts whose markers cannot be read.
#[derive(Clone, Debug, Default)]
pub struct MemoryMarkers(Arc<Store<BTreeMap<Attempt, OpenRecord>>>, Arc<Mutex<BTreeMap<Attempt, ErrorName>>>);

impl MemoryMarkers {
    /// Makes a read of the marker of an attempt fail with this error.
    pub fn make_unreadable(&self, attempt: Attempt, name: ErrorName) {
        self.unreadable().insert(attempt, name);
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<Attempt, ErrorName>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the open record in the first marker of a record.
    pub fn open_record(&self, id: RecordId) -> Option<OpenRecord> {
        self.0.peek().values().find(|open| open.id() == id).cloned()
    }

    /// Returns the attempts that have markers.
    pub fn marked(&self) -> Vec<Attempt> {
        self.0.peek().keys().copied().collect()
    }
}

impl AcceptanceMarkers for MemoryMarkers {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        self.0.open().await?.entry(record.attempt()).or_insert_with(|| record.clone());
        Ok(())
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        Ok(self.0.open().await?.keys().take(limit).copied().collect())
    }

    async fn find(&self, attempt: Attempt) -> Result<Option<OpenRecord>, StageError> {
        let found = self.0.open().await?.get(&attempt).cloned();
        if let Some(name) = self.unreadable().get(&attempt) {
            return Err(StageError::new(*name, "read an unreadable marker"));
        }
        Ok(found)
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        self.0.open().await?.remove(&attempt);
        Ok(())
    }
}
