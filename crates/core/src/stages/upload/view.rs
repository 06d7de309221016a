//! The answer about an upload.

use serde::Serialize;

use super::transfers::UploadState;
use crate::{
    clock::Timestamp,
    ports::UploadLink,
    receipt::{Receipt, Warning},
    record_id::RecordId,
    upload::{AnnouncedPayload, Upload, UploadStatus},
};

/// The answer about an upload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadView {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    status: UploadStatus,
    /// When the upload expires, unless it is completed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<AnnouncedPayload>,
    /// How to upload the payload, while the staging area does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<UploadLink>,
    /// The receipt, if the record is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    /// What the producer may have meant otherwise in the metadata.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    pub(super) links: Links,
}

/// Links, relative to the URL that was requested.
#[derive(Debug, Serialize)]
pub(super) struct Links {
    #[serde(rename = "self")]
    pub(super) itself: String,
    complete: String,
}

impl UploadView {
    /// Creates the answer to a request whose path is `depth` parts below `/uploads`.
    pub(super) fn of(upload: &Upload, state: UploadState, depth: usize) -> Self {
        let (status, link, receipt) = match state {
            UploadState::Pending(link) => (UploadStatus::Pending, link, None),
            UploadState::Uploaded => (UploadStatus::Uploaded, None, None),
            UploadState::Accepted(receipt) => (UploadStatus::Accepted, None, Some(receipt.below(depth))),
        };
        Self {
            message_id: upload.message_id,
            status,
            expires_at: receipt.is_none().then_some(upload.expires_at),
            payload: Some(upload.payload.clone()),
            upload: link,
            receipt,
            warnings: upload.metadata.warnings(),
            links: Links::of(upload.message_id, depth),
        }
    }

    /// Creates the answer to a request to complete an upload whose copy goes on after the answer.
    pub(super) fn completing(id: RecordId) -> Self {
        Self {
            message_id: id,
            status: UploadStatus::Uploaded,
            expires_at: None,
            payload: None,
            upload: None,
            receipt: None,
            warnings: Vec::new(),
            // The path is `/uploads/{uploadID}/complete`.
            links: Links::of(id, 2),
        }
    }
}

impl Links {
    fn of(id: RecordId, depth: usize) -> Self {
        let itself = format!("{}uploads/{id}", "../".repeat(depth));
        let complete = format!("{itself}/complete");
        Self { itself, complete }
    }
}
