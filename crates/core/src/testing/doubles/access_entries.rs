//! The double of the access table.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    access::{AccessEntry, Credential},
    error::{ErrorName, StageError},
    ports::AccessEntries,
};

use super::Store;

failing!(MemoryAccessEntries);

/// An access table in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryAccessEntries(Arc<Store<BTreeMap<Credential, AccessEntry>>>);

impl MemoryAccessEntries {
    /// Creates a table with these entries.
    pub fn with(entries: impl IntoIterator<Item = (Credential, AccessEntry)>) -> Self {
        let table = Self::default();
        table.0.peek().extend(entries);
        table
    }

    /// Sets the entry of a credential, whatever it is now.
    pub fn set(&self, credential: &Credential, entry: &AccessEntry) {
        self.0.peek().insert(credential.clone(), entry.clone());
    }
}

impl AccessEntries for MemoryAccessEntries {
    async fn find(&self, credential: &Credential) -> Result<Option<AccessEntry>, StageError> {
        Ok(self.0.open().await?.get(credential).cloned())
    }

    async fn list(&self) -> Result<Vec<(Credential, AccessEntry)>, StageError> {
        let state = self.0.open().await?;
        let mut entries: Vec<_> =
            state.iter().map(|(credential, entry)| (credential.clone(), entry.clone())).collect();
        entries.sort_by(|(a, of_a), (b, of_b)| (&of_a.principal, a).cmp(&(&of_b.principal, b)));
        Ok(entries)
    }

    async fn put(
        &self,
        credential: &Credential,
        entry: &AccessEntry,
        before: Option<&AccessEntry>,
    ) -> Result<bool, StageError> {
        let mut state = self.0.open().await?;
        let present = state.get(credential);
        if present != before && present != Some(entry) {
            return Ok(false);
        }
        state.insert(credential.clone(), entry.clone());
        Ok(true)
    }

    async fn remove(&self, credential: &Credential) -> Result<(), StageError> {
        self.0.open().await?.remove(credential);
        Ok(())
    }
}
