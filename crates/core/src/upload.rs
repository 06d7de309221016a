//! Uploads: payloads that reach the archive without passing through a function.
//!
//! A producer begins an upload, stores the payload in the staging area by itself, and completes the upload. Completing the
//! upload is the acceptance of a record: the payload is in the archive then. A payload that is in a bucket of the producer
//! is an upload too: Custody has S3 copy it to the staging area.

mod source;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{Display, VariantArray};

pub use self::source::{AllowedSources, PayloadReference, SourceObject, SourceUri};
use crate::{
    clock::Timestamp,
    digest::Sha256,
    idempotency::{IdempotencyKey, canonical_text},
    message::{PayloadDescriptor, PayloadEncoding, SecurityContext},
    metadata::MessageMetadata,
    record_id::RecordId,
};

/// The size of the largest payload of an upload, in bytes: S3 stores and copies an object of this size in one request. Source:
/// Amazon S3 API reference, `PutObject` and `CopyObject` (5 GB).
pub const MAX_UPLOAD_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// The time from the beginning of an upload to its expiry. The claim of its record, which begins later, lives as long, so a
/// repeated completion always finds the claim.
pub const UPLOAD_LIFETIME: Duration = Duration::from_hours(24);

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The id of the upload, and of the record that it becomes.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// The producer's metadata.
    #[serde(rename = "messageMetaData")]
    pub metadata: MessageMetadata,
    /// The payload that the producer has announced.
    pub payload: AnnouncedPayload,
    /// The object from which the payload is copied. `None` if the producer uploads the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceObject>,
    /// The idempotency key of the record.
    pub key: IdempotencyKey,
    /// Who began the upload.
    #[serde(rename = "messageSecurityContext")]
    pub sender: SecurityContext,
    /// When the upload expires.
    pub expires_at: Timestamp,
}

/// The payload of an upload, as the producer announces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnouncedPayload {
    /// The digest. `None` if the payload is copied and the producer has not stated its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    #[serde(rename = "size")]
    pub size_bytes: u64,
    pub content_type: String,
}

impl Upload {
    /// The name of the principal that began the upload.
    pub fn principal(&self) -> &str {
        self.sender.request_context.principal.as_deref().unwrap_or_default()
    }

    /// Whether the upload has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }

    /// Whether `other` announces the same record: the same payload, from the same source, and the same metadata but for tracing.
    pub fn announces_the_same(&self, other: &Self) -> bool {
        let is_same_payload = match &other.source {
            None => self.source.is_none() && self.payload == other.payload,
            // The object may have changed since; the stored upload still copies the object that it was begun with, or fails.
            Some(source) => self.references(&source.requested),
        };
        is_same_payload && self.has_metadata(&other.metadata)
    }

    /// Whether the payload is the object that is requested, with the digest and the media type that are stated.
    pub fn references(&self, requested: &PayloadReference) -> bool {
        self.source.as_ref().is_some_and(|source| source.requested == *requested)
    }

    /// Whether the upload has this metadata, but for tracing.
    pub fn has_metadata(&self, metadata: &MessageMetadata) -> bool {
        canonical_text(&self.metadata) == canonical_text(metadata)
    }

    /// Describes the payload, which has this digest.
    pub fn descriptor(&self, sha256: Sha256) -> PayloadDescriptor {
        PayloadDescriptor {
            sha256,
            size_bytes: self.payload.size_bytes,
            content_type: self.payload.content_type.clone(),
            encoding: PayloadEncoding::Binary,
        }
    }
}

/// The status of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, VariantArray)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
pub enum UploadStatus {
    /// The staging area does not have the payload yet.
    Pending,
    /// The staging area has the payload. Completing the upload is next.
    Uploaded,
    /// The record is accepted.
    Accepted,
}
