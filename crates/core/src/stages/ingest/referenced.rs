//! Acceptance of a payload by reference: S3 copies the object, and the record is accepted when the archive has it.

use super::{AcknowledgedRequest, FollowUp, Ingest, ProblemAnswer};
use crate::{
    envelope::{OCTETS, storable},
    idempotency::IdempotencyKey,
    message::SecurityContext,
    metadata::MessageMetadata,
    ports::Deployment,
    problem::{Problem, ProblemKind},
    stages::upload::{Completion, NewUpload},
    upload::{AnnouncedPayload, PayloadReference, Upload},
};

impl<D: Deployment> Ingest<D> {
    /// Begins an upload of the object, and completes it. If that does not succeed in time, nothing is accepted: the problem names the
    /// upload, and its producer sends the request again, or completes the upload.
    pub(super) async fn accept_reference(
        &self,
        key: Option<IdempotencyKey>,
        metadata: MessageMetadata,
        reference: PayloadReference,
        sender: SecurityContext,
    ) -> Result<AcknowledgedRequest, ProblemAnswer> {
        let begun = match &key {
            Some(key) => self.transfers.begun_with(key, &reference, &metadata).await?,
            None => None,
        };
        let upload = match begun {
            Some(upload) => upload,
            None => self.begin_copy(key, metadata, reference, sender).await?,
        };
        let completion = self.transfers.complete(&upload).await;
        let completion = completion.map_err(|problem| match problem.kind {
            ProblemKind::NoDurableStore | ProblemKind::LookupUnavailable => {
                not_copied(&upload, problem.kind.slug())
            }
            _ => problem,
        })?;
        let Completion::Completed(completed) = completion else {
            return Err(not_copied(&upload, "another request is copying it").into());
        };
        let (receipt, replayed) = (completed.receipt.clone(), completed.replayed);
        let follow_up = FollowUp::completed(completed);
        Ok(if replayed {
            AcknowledgedRequest::replay(receipt, follow_up)
        } else {
            AcknowledgedRequest::first(receipt, follow_up)
        })
    }

    async fn begin_copy(
        &self,
        key: Option<IdempotencyKey>,
        metadata: MessageMetadata,
        reference: PayloadReference,
        sender: SecurityContext,
    ) -> Result<Upload, Problem> {
        let source = self.transfers.inspect(&reference).await?;
        let content_type = match (reference.content_type, &source.content_type) {
            (Some(stated), _) => stated,
            // The type comes from another system, so an unusable one is no mistake of this request.
            (None, Some(known)) => {
                storable(known.clone(), "content-type").unwrap_or_else(|_| OCTETS.to_owned())
            }
            (None, None) => OCTETS.to_owned(),
        };
        let sha256 = reference.sha256.or(source.sha256);
        let payload = AnnouncedPayload { sha256, size_bytes: source.size_bytes, content_type };
        let new = NewUpload { metadata, payload, source: Some(source), key, sender };
        Ok(self.transfers.begin(new).await?.0)
    }
}

fn not_copied(upload: &Upload, cause: &str) -> Problem {
    let id = upload.message_id;
    Problem::new(
        ProblemKind::ReferenceNotCopied,
        format!(
            "the object is not copied yet, because it is large or a store is not available ({cause}); nothing was acknowledged. Send the \
             same request again after the time in Retry-After, or POST /uploads/{id}/complete, which waits longer"
        ),
    )
}
