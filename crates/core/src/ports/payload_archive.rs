//! The permanent store of payloads and their manifests.

use std::future::Future;

use crate::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    error::StageError,
    manifest::Manifest,
    message::{PayloadDescriptor, S3Reference},
    payload_source::PayloadSource,
};

/// The archive: the permanent store of payloads and their manifests.
pub trait PayloadArchive: Send + Sync {
    /// Stores a payload under `key`, unless an object exists there. `now` is stored with the object as the time of
    /// archiving. If the payload cannot be read to its end, nothing is stored, and the error is transient.
    ///
    /// `Ok`: the object under `key` has exactly the described digest, verified by the store. An existing object with
    /// the same digest is a success, and its own time is returned. An existing object with another digest is an
    /// `ArchiveConflict` and stays unchanged. Bytes that arrive with another digest than the described one are
    /// `PayloadCorrupted`.
    fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> impl Future<Output = Result<ArchivedObject, StageError>> + Send;

    /// Returns the object under `key`. `None` is definite absence: the store itself answered that it has no such
    /// object.
    fn find(&self, key: &str) -> impl Future<Output = Result<Option<ArchivedObject>, StageError>> + Send;

    /// Stores a manifest, unless its attempt has one. An existing manifest is a success and stays unchanged.
    fn store_manifest(&self, manifest: &Manifest) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Returns the manifest of an attempt. `None` is definite absence. A manifest of a newer release is a
    /// `NewerSchemaVersion`, and one of an unknown format an `InvalidInput`.
    fn manifest(&self, attempt: Attempt)
    -> impl Future<Output = Result<Option<Manifest>, StageError>> + Send;
}

/// An object in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedObject {
    pub reference: S3Reference,
    /// The digest that the store reports.
    pub sha256: Sha256,
    pub size_bytes: u64,
    /// When the object was stored.
    pub archived_at: Timestamp,
}
