//! What stages say when they are done. Each stage is the only maker of its receipt.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    digest::Sha256,
    idempotency::Claim,
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, S3Reference},
    record_id::RecordId,
};

/// What the producer gets: proof that the record is durable and will be processed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// When it was received.
    #[serde(rename = "receivedAt")]
    pub received_at: Timestamp,
    /// What was received.
    pub payload: ReceivedPayload,
    /// How it is durable now.
    pub durability: Durability,
    /// Where to look next.
    pub links: Links,
}

/// The payload in a [`Receipt`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedPayload {
    /// The digest of the bytes as Custody will archive them.
    pub sha256: Sha256,
    /// Their number.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// Their media type.
    #[serde(rename = "contentType")]
    pub content_type: String,
}

/// How an acknowledged record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the cache's transaction log, which spans availability zones: it survives the loss of every node.
    Durable,
    /// In the memory of the cache, confirmed by every replica of its shard.
    Replicated,
    /// In the S3 archive already.
    Archived,
}

/// Links in a [`Receipt`], relative to the URL that was posted to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Links {
    /// The record.
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
        }
    }

    /// The receipt of a record that an earlier request stored.
    pub(crate) fn of_claim(claim: Claim, durability: Durability) -> Self {
        let id = claim.message_id;
        Self {
            message_id: id,
            received_at: id.received_at(),
            payload: claim.payload,
            durability,
            links: Links::to(id),
        }
    }
}

impl ReceivedPayload {
    pub(crate) fn of(payload: &PayloadDescriptor) -> Self {
        Self {
            sha256: payload.sha256,
            size_bytes: payload.size_bytes,
            content_type: payload.content_type.clone(),
        }
    }
}

impl Links {
    fn to(id: RecordId) -> Self {
        Self { itself: format!("messages/{id}") }
    }
}

/// The archive stage's word that the payload is in the archive under its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArchiveReceipt {
    /// Where.
    #[serde(rename = "S3Reference")]
    pub s3_reference: S3Reference,
    /// The digest that S3 confirmed.
    pub sha256: Sha256,
    /// The number of bytes.
    #[serde(rename = "size")]
    pub size_bytes: u64,
    /// When this run of the stage was done.
    #[serde(rename = "archivedAt")]
    pub archived_at: Timestamp,
}

/// The metadata stage's word that the item is in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetadataReceipt {
    /// Where.
    #[serde(rename = "metaDataReference")]
    pub meta_data_reference: MetaDataReference,
    /// When this run of the stage was done.
    #[serde(rename = "storedAt")]
    pub stored_at: Timestamp,
}

/// The aggregate stage's word that the record is `COMPLETED`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FinalRecord {
    /// The message with its final references.
    pub message: InternalMessage,
    /// When this run of the stage was done.
    #[serde(rename = "completedAt")]
    pub completed_at: Timestamp,
}
