//! The doubles of the failure function and of the failed bucket.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{Store, archive::memory_reference};
use crate::{
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    message::S3Reference,
    payload_source::PayloadSource,
    ports::{FailedStore, FailureHandler},
};

failing!(MemoryFailureHandler, MemoryFailedStore);

/// A failure function that only records its inputs.
#[derive(Clone, Debug, Default)]
pub struct MemoryFailureHandler(Arc<Store<Vec<FailedRecord>>>);

impl MemoryFailureHandler {
    /// Returns the inputs of all calls.
    pub fn handled(&self) -> Vec<FailedRecord> {
        self.0.peek().clone()
    }
}

impl FailureHandler for MemoryFailureHandler {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        self.0.open().await?.push(failed.clone());
        Ok(FailureReceipt { message_id: failed.message.message_id, finished: true })
    }
}

/// A failed bucket in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryFailedStore(Arc<Store<BTreeMap<String, Bytes>>>);

impl MemoryFailedStore {
    /// Returns all objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.peek().clone()
    }

    /// Returns the content of the object under this key.
    pub fn content(&self, key: &str) -> Option<Bytes> {
        self.0.peek().get(key).cloned()
    }
}

impl FailedStore for MemoryFailedStore {
    async fn preserve(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        self.0.open().await?.entry(key.to_owned()).or_insert(content);
        Ok(memory_reference(key))
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        Ok(self.0.open().await?.get(key).cloned())
    }

    async fn source(&self, key: &str) -> Result<Option<PayloadSource>, StageError> {
        Ok(self.fetch(key).await?.map(PayloadSource::from))
    }

    async fn find(&self, key: &str) -> Result<Option<S3Reference>, StageError> {
        Ok(self.0.open().await?.contains_key(key).then(|| memory_reference(key)))
    }
}
