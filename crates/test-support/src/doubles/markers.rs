//! Acceptance markers in memory.

use std::collections::BTreeMap;

use custody_core::{
    attempt::Attempt,
    error::{ErrorName, StageError},
    open_record::OpenRecord,
    ports::AcceptanceMarkers,
};

use super::Store;

failing!(MemoryMarkers);

/// Acceptance markers in memory.
#[derive(Debug, Default)]
pub struct MemoryMarkers(Store<BTreeMap<Attempt, OpenRecord>>);

impl MemoryMarkers {
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
        Ok(self.0.open().await?.get(&attempt).cloned())
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        self.0.open().await?.remove(&attempt);
        Ok(())
    }
}
