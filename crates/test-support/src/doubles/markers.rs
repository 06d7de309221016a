//! Pending markers in memory.

use std::collections::BTreeMap;

use custody_core::{
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::InternalMessage,
    ports::{IdempotencyClaims, PendingMarkers, PendingRun, PendingRuns},
    record_id::RecordId,
    run::Run,
};

use super::Store;

failing!(MemoryMarkers);

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
