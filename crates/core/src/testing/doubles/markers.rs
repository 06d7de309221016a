//! Acceptance markers in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    attempt::Attempt,
    error::{ErrorName, StageError},
    open_record::OpenRecord,
    ports::AcceptanceMarkers,
};

use super::Store;

failing!(MemoryMarkers);

/// Acceptance markers in memory, and those among them that cannot be read.
#[derive(Debug, Default)]
pub struct MemoryMarkers(Store<BTreeMap<Attempt, OpenRecord>>, Mutex<BTreeSet<Attempt>>);

impl MemoryMarkers {
    /// Makes a marker one that cannot be read.
    pub fn spoil(&self, attempt: Attempt) {
        self.spoiled().insert(attempt);
    }

    fn spoiled(&self) -> MutexGuard<'_, BTreeSet<Attempt>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempts that have markers.
    pub fn marked(&self) -> Vec<Attempt> {
        self.0.peek().keys().copied().collect()
    }
}

impl AcceptanceMarkers for &MemoryMarkers {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        self.0.open().await?.entry(record.attempt()).or_insert_with(|| record.clone());
        Ok(())
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        Ok(self.0.open().await?.keys().take(limit).copied().collect())
    }

    async fn find(&self, attempt: Attempt) -> Result<Option<OpenRecord>, StageError> {
        let found = self.0.open().await?.get(&attempt).cloned();
        if self.spoiled().contains(&attempt) {
            return Err(StageError::new(ErrorName::ServiceRefused, "read a marker that is spoiled"));
        }
        Ok(found)
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        self.0.open().await?.remove(&attempt);
        Ok(())
    }
}
