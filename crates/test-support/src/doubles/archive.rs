//! An archive in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use custody_core::{
    digest::Sha256,
    error::{ErrorName, StageError},
    message::{PayloadDescriptor, S3Reference},
    ports::{ArchivedObject, PayloadArchive},
};

use super::Store;

failing!(MemoryArchive);

/// An archive in memory.
#[derive(Debug, Default)]
pub struct MemoryArchive(Store<BTreeMap<String, Bytes>>);

impl MemoryArchive {
    /// All objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.peek().clone()
    }

    /// Puts an object there, past every condition.
    pub fn plant(&self, key: &str, content: &[u8]) {
        self.0.peek().insert(key.to_owned(), Bytes::copy_from_slice(content));
    }
}

pub(super) fn memory_reference(key: &str) -> S3Reference {
    S3Reference { bucket: "memory".to_owned(), key: key.to_owned() }
}

impl PayloadArchive for &MemoryArchive {
    async fn store(
        &self,
        key: &str,
        payload: Bytes,
        descriptor: &PayloadDescriptor,
    ) -> Result<S3Reference, StageError> {
        let mut objects = self.0.open()?;
        if Sha256::of(&payload) != descriptor.sha256 {
            return Err(StageError::new(
                ErrorName::ServiceRefused,
                "store a payload under a digest it does not have",
            ));
        }
        match objects.get(key) {
            Some(existing) if *existing != payload => Err(StageError::new(
                ErrorName::ArchiveConflict,
                format!("store object {key}: it exists and differs"),
            )),
            Some(_) => Ok(memory_reference(key)),
            None => {
                objects.insert(key.to_owned(), payload);
                Ok(memory_reference(key))
            }
        }
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        Ok(self.0.open()?.get(key).map(|content| ArchivedObject {
            reference: memory_reference(key),
            sha256: Sha256::of(content),
            size_bytes: content.len() as u64,
        }))
    }
}
