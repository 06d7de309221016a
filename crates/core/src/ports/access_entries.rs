//! The port of the access table, which assigns credentials to principals and states their rights.

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

    /// Returns all entries, read consistently, ordered by principal and then by credential. An entry that is written or
    /// removed at the same time may be missing.
    fn list(&self) -> impl Future<Output = Result<Vec<(Credential, AccessEntry)>, StageError>> + Send;

    /// Writes the entry of a credential, if its present entry is `before`, or if it has none and `before` is `None`. Returns
    /// `false`, and changes nothing, if somebody else has changed the entry since it was read. A repeated call returns `true` if
    /// the entry is the one to write already.
    fn put(
        &self,
        credential: &Credential,
        entry: &AccessEntry,
        before: Option<&AccessEntry>,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Removes the entry of a credential. Success if there is none.
    fn remove(&self, credential: &Credential) -> impl Future<Output = Result<(), StageError>> + Send;
}
