//! The access table, intercepted.

use super::{Intercepted, Interceptor};
use crate::{
    access::{AccessEntry, Credential},
    error::StageError,
    ports::{AccessEntries, PortName::AccessEntries as Access},
};

impl<P: AccessEntries + Clone + 'static, I: Interceptor> AccessEntries for Intercepted<P, I> {
    async fn find(&self, credential: &Credential) -> Result<Option<AccessEntry>, StageError> {
        let credential = credential.clone();
        self.call(Access, "find", None, |port| async move { port.find(&credential).await }).await
    }

    async fn list(&self) -> Result<Vec<(Credential, AccessEntry)>, StageError> {
        self.call(Access, "list", None, |port| async move { port.list().await }).await
    }

    async fn put(
        &self,
        credential: &Credential,
        entry: &AccessEntry,
        before: Option<&AccessEntry>,
    ) -> Result<bool, StageError> {
        let (credential, entry, before) = (credential.clone(), entry.clone(), before.cloned());
        let put = |port: P| async move { port.put(&credential, &entry, before.as_ref()).await };
        self.call(Access, "put", None, put).await
    }

    async fn remove(&self, credential: &Credential) -> Result<(), StageError> {
        let credential = credential.clone();
        self.call(Access, "remove", None, |port| async move { port.remove(&credential).await }).await
    }
}
