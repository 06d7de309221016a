//! Acceptance of a payload by reference: S3 copies the object, and the record is accepted when the archive has it.

use tracing::info;

use super::{AcknowledgedRequest, Answer, FollowUp, Ingest, ProblemAnswer};
use crate::{
    envelope::{PayloadReference, storable},
    idempotency::IdempotencyKey,
    message::SecurityContext,
    metadata::MessageMetadata,
    ports::Deployment,
    problem::{Problem, ProblemKind},
    stages::upload::{NewUpload, still_completing},
    upload::AnnouncedPayload,
};

impl<D: Deployment> Ingest<D> {
    /// Begins an upload of the object, and completes it. If the copy takes longer than a request may, or a store is not available,
    /// nothing is accepted yet: the answer names the upload, and its producer completes it.
    pub(super) async fn accept_reference(
        &self,
        key: Option<IdempotencyKey>,
        metadata: MessageMetadata,
        reference: PayloadReference,
        sender: SecurityContext,
    ) -> Result<Answer, ProblemAnswer> {
        let source = self.transfers.inspect(&reference.uri).await?;
        if let (Some(stated), Some(actual)) = (reference.sha256, source.sha256)
            && stated != actual
        {
            let detail = format!(
                "payloadReference states SHA-256 {stated}, and {} has {actual}; send the digest of the object",
                source.uri
            );
            return Err(Problem::new(ProblemKind::DigestMismatch, detail).into());
        }
        let content_type = match (reference.content_type, &source.content_type) {
            (Some(stated), _) => stated,
            // The type comes from another system, so an unusable one is no mistake of this request.
            (None, Some(known)) => {
                storable(known.clone(), "content-type").unwrap_or_else(|_| OCTETS.to_owned())
            }
            (None, None) => OCTETS.to_owned(),
        };
        let payload = AnnouncedPayload {
            sha256: reference.sha256.or(source.sha256),
            size_bytes: source.size_bytes,
            content_type,
        };
        let new = NewUpload { metadata, payload, source: Some(source), key, sender };
        let (upload, _) = self.transfers.begin(new).await?;
        match self.transfers.complete(&upload).await {
            Ok(completed) => {
                let (receipt, replayed) = (completed.receipt.clone(), completed.replayed);
                let follow_up = FollowUp::completed(completed);
                Ok(AcknowledgedRequest { receipt, replayed, follow_up }.into())
            }
            Err(problem) if problem.kind.status() == 503 => {
                info!(record.id = %upload.message_id, detail = problem.detail, "left an upload to be completed");
                Ok(Answer {
                    response: still_completing(upload.message_id, 0),
                    follow_up: FollowUp::default(),
                })
            }
            Err(problem) => Err(problem.into()),
        }
    }
}

/// The media type of a payload of which none is known.
const OCTETS: &str = "application/octet-stream";
