//! The manifest: what is known of a record, stored in the archive beside its payload.

use serde::{Deserialize, Serialize};

use crate::{
    SCHEMA_VERSION,
    attempt::Attempt,
    error::StageError,
    message::{InternalMessage, StorageContext},
    receipt::ArchiveReceipt,
    schema,
};

/// What one attempt knew of its record when the payload was archived: metadata, sender, digest, size and times. The archive
/// stage stores a manifest after the payload, so a manifest proves that the payload was archived. If the record table is
/// lost, `custody rebuild` makes its items of the manifests.
///
/// *Invariant:* the content is a function of the attempt and of what was stored first, so that every run of the archive stage
/// makes the same manifest for one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The version of this format.
    pub schema_version: u32,
    /// Where and when the payload was archived, and its digest and size.
    pub archive: ArchiveReceipt,
    /// The message of the attempt. Its storage context names only the archive: the other places are temporary.
    pub message: InternalMessage,
}

impl Manifest {
    /// Creates the manifest of an attempt whose payload is archived.
    pub fn new(message: &InternalMessage, archive: ArchiveReceipt) -> Self {
        let mut message = message.clone();
        message.storage_context = StorageContext::default();
        message.storage_context.s3_reference = Some(archive.s3_reference.clone());
        message.storage_context.persistence.s3 = true;
        Self { schema_version: SCHEMA_VERSION, archive, message }
    }

    /// Returns the attempt whose manifest this is.
    pub fn attempt(&self) -> Attempt {
        self.message.attempt()
    }

    /// Reads the JSON text of a manifest.
    pub fn read(json: &[u8]) -> Result<Self, StageError> {
        schema::read(json, "read a manifest")
    }

    /// Returns the JSON text of the manifest.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a manifest always serializes")
    }
}
