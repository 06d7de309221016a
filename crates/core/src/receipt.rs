//! The receipts of the stages. Only a stage itself can create its receipt.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::{
    clock::Timestamp,
    digest::Sha256,
    idempotency::Claim,
    message::{InternalMessage, MetadataReference, PayloadDescriptor, PayloadEncoding, S3Reference},
    record_id::RecordId,
};

/// The receipt for the producer: proof that the record is durable and will be processed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The id of the record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// When the record was received.
    #[serde(rename = "receivedAt")]
    pub received_at: Timestamp,
    /// The payload that was received.
    pub payload: ReceivedPayload,
    /// How the record was durable when it was accepted.
    pub durability: Durability,
    /// Where the producer can look up the record.
    pub links: Links,
    /// What the producer may have meant otherwise. The record is accepted nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A part of an accepted request that the producer may have meant otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The JSON path of that part, or the name of a header.
    pub at: String,
    /// What was understood, and what to send if that was not meant, as text for a person.
    pub detail: String,
}

/// The payload in a [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedPayload {
    /// The digest of the bytes as Custody will archive them.
    pub sha256: Sha256,
    /// The size of the payload.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// The media type of the payload.
    #[serde(rename = "contentType")]
    pub content_type: String,
    /// How the request was understood to carry the payload. `None` in receipts of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<PayloadEncoding>,
}

/// How an acknowledged record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Durability {
    /// The payload is in the cache's multi-AZ transaction log.
    Durable,
    /// The payload is in the memory of a primary and of all its replicas.
    Replicated,
    /// The payload is in the S3 archive already.
    Archived,
}

impl Durability {
    /// Whether this durability survives all that `other` survives.
    pub const fn covers(self, other: Self) -> bool {
        match other {
            Self::Replicated => true,
            Self::Durable => matches!(self, Self::Durable | Self::Archived),
            Self::Archived => matches!(self, Self::Archived),
        }
    }
}

/// Links in a [`Receipt`], relative to the URL that was posted to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Links {
    /// The link to the record.
    #[serde(rename = "self")]
    pub itself: String,
}

impl Receipt {
    pub(crate) fn new(message: &InternalMessage, durability: Durability) -> Self {
        Self {
            message_id: message.message_id,
            received_at: message.received_at,
            payload: ReceivedPayload::of(&message.payload),
            durability,
            links: Links::to(message.message_id),
            warnings: Vec::new(),
        }
    }

    /// Adds warnings to the receipt.
    #[must_use]
    pub(crate) fn with(self, warnings: Vec<Warning>) -> Self {
        Self { warnings, ..self }
    }

    /// Returns the same receipt as the answer to a request whose path is `depth` parts longer: the links are relative to it.
    #[must_use]
    pub(crate) fn below(&self, depth: usize) -> Self {
        let itself = format!("{}{}", "../".repeat(depth), self.links.itself);
        Self { links: Links { itself }, ..self.clone() }
    }

    /// Returns the receipt of a record that an earlier request stored.
    pub(crate) fn of_claim(claim: Claim) -> Self {
        let id = claim.message_id;
        Self {
            message_id: id,
            received_at: id.received_at(),
            payload: claim.payload,
            durability: claim.durability,
            links: Links::to(id),
            warnings: Vec::new(),
        }
    }
}

impl ReceivedPayload {
    pub(crate) fn of(payload: &PayloadDescriptor) -> Self {
        Self {
            sha256: payload.sha256,
            size_bytes: payload.size_bytes,
            content_type: payload.content_type.clone(),
            encoding: Some(payload.encoding),
        }
    }
}

impl Links {
    fn to(id: RecordId) -> Self {
        Self { itself: format!("messages/{id}") }
    }
}

/// The archive stage's proof that the payload is in the archive under its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchiveReceipt {
    /// Where the payload is archived.
    #[serde(rename = "S3Reference")]
    pub s3_reference: S3Reference,
    /// The digest that S3 confirmed.
    pub sha256: Sha256,
    /// The size of the payload.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// When the payload was first archived.
    #[serde(rename = "archivedAt")]
    pub archived_at: Timestamp,
}

/// The metadata stage's proof that the item is in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetadataReceipt {
    /// Where the item is stored.
    #[serde(rename = "metaDataReference")]
    pub metadata_reference: MetadataReference,
    /// When the item was first stored.
    #[serde(rename = "storedAt")]
    pub stored_at: Timestamp,
}

/// The aggregate stage's proof that the record is `COMPLETED`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FinalRecord {
    /// The message with its final references.
    pub message: InternalMessage,
    /// When the record was first completed.
    #[serde(rename = "completedAt")]
    pub completed_at: Timestamp,
    /// Whether the payload, which is archived, has been removed from the cache. If not, the record stays open.
    pub unlinked: bool,
}
