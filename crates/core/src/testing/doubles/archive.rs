//! The double of the archive.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::Store;
use crate::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    error::{ErrorName, StageError},
    manifest::Manifest,
    message::{PayloadDescriptor, S3Reference},
    payload_source::PayloadSource,
    ports::{ArchivedObject, PayloadArchive},
};

failing!(MemoryArchive);

/// An archive in memory. The flag is true if the next payload is to be corrupted before it is stored.
#[derive(Clone, Debug, Default)]
pub struct MemoryArchive(Arc<Store<BTreeMap<String, Object>>>, Arc<AtomicBool>);

#[derive(Debug)]
struct Object {
    content: Bytes,
    archived_at: Timestamp,
}

impl MemoryArchive {
    /// Returns all objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.0.peek().iter().map(|(key, object)| (key.clone(), object.content.clone())).collect()
    }

    /// Returns the content of the object under this key.
    pub fn content(&self, key: &str) -> Option<Bytes> {
        self.0.peek().get(key).map(|object| object.content.clone())
    }

    /// Makes the next call of `store` fail, as if its payload was corrupted on the network.
    pub fn corrupt_next(&self) {
        self.1.store(true, Ordering::Relaxed);
    }

    /// Deletes an object, as only a break-glass role can.
    pub fn remove(&self, key: &str) {
        self.0.peek().remove(key);
    }

    /// Stores an object without any condition.
    pub fn insert_unconditionally(&self, key: &str, content: &[u8]) {
        let archived_at = Timestamp::from_unix_ms(0).expect("the epoch is in range");
        let object = Object { content: Bytes::copy_from_slice(content), archived_at };
        self.0.peek().insert(key.to_owned(), object);
    }
}

pub(super) fn memory_reference(key: &str) -> S3Reference {
    S3Reference { bucket: "memory".to_owned(), key: key.to_owned() }
}

fn described(key: &str, object: &Object) -> ArchivedObject {
    ArchivedObject {
        reference: memory_reference(key),
        sha256: Sha256::of(&object.content),
        size_bytes: object.content.len() as u64,
        archived_at: object.archived_at,
    }
}

impl PayloadArchive for MemoryArchive {
    async fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let read_failure = |error| {
            StageError::new(ErrorName::ArchiveUnavailable, format!("store object {key}")).caused_by(error)
        };
        let pieces: Vec<Bytes> = payload.pieces().try_collect().await.map_err(read_failure)?;
        let payload = Bytes::from(pieces.concat());
        let mut objects = self.0.open().await?;
        let is_altered = self.1.swap(false, Ordering::Relaxed);
        if is_altered || Sha256::of(&payload) != descriptor.sha256 {
            return Err(StageError::new(
                ErrorName::PayloadCorrupted,
                "store a payload under a digest it does not have",
            ));
        }
        let object = objects
            .entry(key.to_owned())
            .or_insert_with(|| Object { content: payload.clone(), archived_at: now });
        if object.content != payload {
            return Err(StageError::new(
                ErrorName::ArchiveConflict,
                format!("store object {key}: it exists and differs"),
            ));
        }
        Ok(described(key, object))
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        Ok(self.0.open().await?.get(key).map(|object| described(key, object)))
    }

    async fn store_manifest(&self, manifest: &Manifest) -> Result<(), StageError> {
        let mut objects = self.0.open().await?;
        objects.entry(manifest.attempt().manifest_key()).or_insert_with(|| Object {
            content: Bytes::from(manifest.to_json()),
            archived_at: manifest.archive.archived_at,
        });
        Ok(())
    }

    async fn manifest(&self, attempt: Attempt) -> Result<Option<Manifest>, StageError> {
        let objects = self.0.open().await?;
        let Some(object) = objects.get(&attempt.manifest_key()) else { return Ok(None) };
        Manifest::read(&object.content).map(Some)
    }
}
