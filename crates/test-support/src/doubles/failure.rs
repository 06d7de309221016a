//! The failure function and its store, in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use custody_core::{
    error::{ErrorName, StageError},
    message::S3Reference,
    ports::{FailedStore, FailureHandler, Salvage},
    rejected_request::RejectedRequest,
    stages::failure::{FailedRecord, FailureReceipt},
};

use super::{Store, archive::memory_reference};

failing!(MemoryFailureHandler, MemorySalvage, MemoryFailedStore);

/// A failure function that only notes what it was told to handle.
#[derive(Debug, Default)]
pub struct MemoryFailureHandler(Store<Vec<FailedRecord>>);

impl MemoryFailureHandler {
    /// What it was told to handle.
    pub fn handled(&self) -> Vec<FailedRecord> {
        self.0.peek().clone()
    }
}

impl FailureHandler for &MemoryFailureHandler {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        self.0.open()?.push(failed.clone());
        Ok(FailureReceipt {
            message_id: Some(failed.message.message_id),
            payload_reference: None,
            failed_at: failed.message.received_at,
            finished: true,
        })
    }
}

/// A failure function that only notes what it was given.
#[derive(Debug, Default)]
pub struct MemorySalvage(Store<Vec<String>>);

impl MemorySalvage {
    /// The requests handed over, as JSON text.
    pub fn requests(&self) -> Vec<String> {
        self.0.peek().clone()
    }
}

impl Salvage for &MemorySalvage {
    async fn salvage(&self, request: &RejectedRequest<'_>) -> Result<(), StageError> {
        self.0.open()?.push(request.to_json());
        Ok(())
    }
}

/// A failed-records store in memory.
#[derive(Debug, Default)]
pub struct MemoryFailedStore(Store<BTreeMap<String, Bytes>>);

impl MemoryFailedStore {
    /// All objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.peek().clone()
    }
}

impl FailedStore for &MemoryFailedStore {
    async fn keep(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        self.0.open()?.entry(key.to_owned()).or_insert(content);
        Ok(memory_reference(key))
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        Ok(self.0.open()?.get(key).cloned())
    }
}
