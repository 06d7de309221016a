//! The access table.

use std::future::Future;

use crate::{
    access::{AccessEntry, Credential},
    error::StageError,
};

/// The store of access entries. An entry assigns a credential to a principal and states the rights of that principal.
pub trait AccessEntries: Send + Sync {
    /// Returns the entry of a credential, read consistently. An expired entry is returned too.
    fn find(
        &self,
        credential: &Credential,
    ) -> impl Future<Output = Result<Option<AccessEntry>, StageError>> + Send;

    /// Returns all entries, read consistently, ordered by principal and then by credential. An entry that is written or removed at the same
    /// time may be missing.
    fn list(&self) -> impl Future<Output = Result<Vec<(Credential, AccessEntry)>, StageError>> + Send;

    /// Writes the entry of a credential. An existing entry of the credential is replaced.
    fn put(
        &self,
        credential: &Credential,
        entry: &AccessEntry,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Removes the entry of a credential. Success if there is none.
    fn remove(&self, credential: &Credential) -> impl Future<Output = Result<(), StageError>> + Send;
}
