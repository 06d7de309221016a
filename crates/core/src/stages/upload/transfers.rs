//! Uploads over their ports: begin, look, complete. Ingest uses them too, for payloads that a producer sends by reference.

use std::time::Duration;

use tracing::{error, info, warn};

use crate::{
    clock::{Clock as _, Timestamp},
    error::{ErrorName, StageError},
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::{InternalMessage, PayloadDescriptor, SecurityContext, StorageContext},
    metadata::MessageMetadata,
    open_record::OpenRecord,
    ports::{
        Acceptance, ArchivedObject, Deployment, OpenRecords as _, StagedPayload, StagingArea as _,
        UploadLink, Uploads as _, Workflow as _,
    },
    problem::{Problem, ProblemKind},
    receipt::{Durability, Receipt},
    record_id::RecordId,
    stages::keys::{KeyState, check_same_request, keys_unavailable, no_durable_store},
    upload::{
        AllowedSources, AnnouncedPayload, MAX_UPLOAD_BYTES, PayloadReference, SourceObject, UPLOAD_LIFETIME,
        Upload,
    },
};

use super::problems::{not_uploaded, source_changed, source_problem, unavailable, unknown_key};

/// Uploads over the ports that they need.
pub struct Transfers<D: Deployment> {
    /// The upload table.
    pub uploads: D::Uploads,
    /// The staging area, and the copy from it to the archive.
    pub staging: D::Staging,
    /// The open-record table, which stores the acceptance.
    pub open_records: D::OpenRecords,
    /// The idempotency table.
    pub claims: D::Claims,
    /// The workflow, which processes accepted records.
    pub workflow: D::Workflow,
    /// The objects that producers may send by reference.
    pub allowed_sources: AllowedSources,
    pub clock: D::Clock,
    /// The time from a record's acceptance to reconcile's first look at it.
    pub first_look: Duration,
}

/// An upload that is about to begin.
#[derive(Debug)]
pub struct NewUpload {
    pub metadata: MessageMetadata,
    pub payload: AnnouncedPayload,
    /// The object from which the payload is copied. `None` if the producer uploads the payload.
    pub source: Option<SourceObject>,
    /// The idempotency key that the producer has chosen.
    pub key: Option<IdempotencyKey>,
    pub sender: SecurityContext,
}

/// An upload that was completed.
#[derive(Debug)]
pub struct CompletedUpload {
    pub receipt: Receipt,
    /// Whether the receipt repeats an earlier one.
    pub replayed: bool,
    /// The upload whose staged payload is not needed any more.
    id: RecordId,
    /// The record that this completion has accepted.
    accepted: Option<Box<OpenRecord>>,
}

/// The outcome of a completion.
#[derive(Debug)]
pub enum Completion {
    /// The record is accepted.
    Completed(CompletedUpload),
    /// Another completion is copying the payload.
    Copying,
}

/// The size from which on only one completion at a time copies the payload of an upload, in bytes. Copies of smaller payloads cost less
/// than the write of a lease.
pub(super) const LEASED_BYTES: u64 = 64 << 20;

/// Returns the time for which a completion may copy a payload alone. It is longer than a copy takes (unverified: that S3 copies
/// 20 MB per second within a Region), and short enough for a producer to wait if the completion has died.
pub(super) fn lease_time(size_bytes: u64) -> Duration {
    Duration::from_mins(1) + Duration::from_secs(size_bytes / 20_000_000)
}

/// The right to copy the payload of an upload.
enum Lease {
    /// This completion has it until then.
    Held(Timestamp),
    /// The payload is copied without it.
    NotNeeded,
    /// Another completion has it.
    Elsewhere,
}

/// The state of an upload.
pub(super) enum UploadState {
    /// The payload is not in the staging area. The link is for a producer that uploads it by itself.
    Pending(Option<UploadLink>),
    Uploaded,
    Accepted(Receipt),
}

impl<D: Deployment> Transfers<D> {
    /// Begins an upload, or returns the one that was begun under the same key and announces the same record. Returns whether the
    /// upload is new.
    pub async fn begin(&self, new: NewUpload) -> Result<(Upload, bool), Problem> {
        let NewUpload { metadata, payload, source, key, sender } = new;
        let (now, message_id) = (self.clock.now(), self.clock.mint());
        let mut upload = Upload {
            message_id,
            metadata,
            payload,
            source,
            key: IdempotencyKey::of_upload("", message_id),
            sender,
            expires_at: now.after(UPLOAD_LIFETIME),
        };
        upload.key = key.unwrap_or_else(|| IdempotencyKey::of_upload(upload.principal(), message_id));
        let stored = self.uploads.begin(&upload, now).await.map_err(|error| {
            error!(error.name = error.name.as_str(), %error, "could not begin an upload");
            keys_unavailable()
        })?;
        if !stored.announces_the_same(&upload) {
            let detail = format!(
                "the Idempotency-Key belongs to upload {}, which announces another payload or other metadata; send another key \
                 with another record",
                stored.message_id
            );
            return Err(Problem::new(ProblemKind::IdempotencyConflict, detail));
        }
        let is_new = stored.message_id == message_id;
        Ok((stored, is_new))
    }

    /// Returns the upload that was begun under a key for the same reference and the same metadata. A repeated request finds it also
    /// when the object has changed or is gone since.
    pub async fn begun_with(
        &self,
        key: &IdempotencyKey,
        requested: &PayloadReference,
        metadata: &MessageMetadata,
    ) -> Result<Option<Upload>, Problem> {
        let found = self.uploads.of_key(key, self.clock.now()).await.map_err(|error| unknown_key(&error))?;
        Ok(found.filter(|upload| upload.references(requested) && upload.has_metadata(metadata)))
    }

    /// Looks at an object that a producer sends by reference, and describes it as the payload of an upload.
    pub async fn inspect(&self, requested: &PayloadReference) -> Result<SourceObject, Problem> {
        let uri = &requested.uri;
        if !self.allowed_sources.includes(uri) {
            let detail = format!(
                "{uri} is not among the objects that this deployment takes by reference; an operator adds its bucket to the \
                 parameter ReferenceSources"
            );
            return Err(Problem::new(ProblemKind::ReferenceNotAllowed, detail));
        }
        let found = self.staging.inspect(requested).await.map_err(|error| source_problem(uri, &error))?;
        let source = found.ok_or_else(|| {
            Problem::new(
                ProblemKind::ReferenceNotFound,
                format!("there is no object {uri}; send the address of one that exists"),
            )
        })?;
        match source.size_bytes {
            0 => Err(Problem::new(ProblemKind::MissingPayload, format!("{uri} is empty; send a payload"))),
            size if size > MAX_UPLOAD_BYTES => Err(Problem::new(
                ProblemKind::TooLarge,
                format!("{uri} has {size} bytes and the limit is {MAX_UPLOAD_BYTES}; split the payload"),
            )),
            _ => Ok(source),
        }
    }

    /// Returns an upload; `None` if there is none, or if it has expired.
    pub(super) async fn find(&self, id: RecordId) -> Result<Option<Upload>, Problem> {
        let found = self.uploads.find(id).await.map_err(|error| unavailable(&error))?;
        Ok(found.filter(|upload| !upload.is_expired(self.clock.now())))
    }

    /// Returns the state of an upload.
    pub(super) async fn state(&self, upload: &Upload) -> Result<UploadState, Problem> {
        let state = self.key_state(upload).await.map_err(|error| unavailable(&error))?;
        if let KeyState::Claimed(claim) = state
            && claim.message_id == upload.message_id
        {
            return Ok(UploadState::Accepted(Receipt::of_claim(claim)));
        }
        let staged = self.staging.find(upload.message_id).await.map_err(|error| unavailable(&error))?;
        if staged.is_some() {
            return Ok(UploadState::Uploaded);
        }
        let link = match upload.source {
            Some(_) => None,
            None => Some(
                self.staging
                    .upload_link(upload, self.clock.now())
                    .await
                    .map_err(|error| unavailable(&error))?,
            ),
        };
        Ok(UploadState::Pending(link))
    }

    /// Completes an upload: archives its payload, and accepts its record. A repeated call returns the first receipt.
    ///
    /// The claim of the key is read before the archive is written, because nothing can be deleted from the archive. If the
    /// process dies after that write, the next call finds the archived payload and goes on.
    pub async fn complete(&self, upload: &Upload) -> Result<Completion, Problem> {
        let problem = match self.complete_or_fail(upload).await {
            Ok(completion) => return Ok(completion),
            Err(problem) => problem,
        };
        if !matches!(
            problem.kind,
            ProblemKind::UploadIncomplete | ProblemKind::ReferenceChanged | ProblemKind::DigestMismatch
        ) {
            return Err(problem);
        }
        // A concurrent completion may have accepted the record since the claim was read, and removed the staged payload.
        let state = self.key_state(upload).await.map_err(|error| unknown_key(&error))?;
        if let KeyState::Claimed(claim) = state
            && claim.message_id == upload.message_id
        {
            return Ok(Completion::Completed(repeated(upload.message_id, claim)));
        }
        if problem.kind != ProblemKind::UploadIncomplete {
            // No later call can complete this upload. Its key must not stay with it.
            self.abandon(upload).await;
        }
        Err(problem)
    }

    async fn abandon(&self, upload: &Upload) {
        let id = upload.message_id;
        if let Err(error) = self.uploads.abandon(upload).await {
            log_failed_effect(id, &error, "left the key of an upload that cannot be completed to its expiry");
        }
        if let Err(error) = self.staging.remove(id).await {
            log_failed_effect(id, &error, "left a staged payload to its expiry");
        }
    }

    async fn complete_or_fail(&self, upload: &Upload) -> Result<Completion, Problem> {
        let id = upload.message_id;
        let state = self.key_state(upload).await.map_err(|error| unknown_key(&error))?;
        if let KeyState::Claimed(claim) = state {
            if claim.message_id != id {
                let payload = self.staged_payload(upload).await?.0;
                check_same_request(&claim, &payload, &upload.metadata)?;
            }
            return Ok(Completion::Completed(repeated(id, claim)));
        }
        let lease = self.lease(upload).await;
        if matches!(lease, Lease::Elsewhere) {
            return Ok(Completion::Copying);
        }
        let completed = self.copy_and_accept(upload, state).await;
        if completed.is_err()
            && let Lease::Held(until) = lease
            && let Err(error) = self.uploads.end_lease(id, until).await
        {
            log_failed_effect(id, &error, "left the right to copy an upload to its end");
        }
        completed.map(Completion::Completed)
    }

    async fn lease(&self, upload: &Upload) -> Lease {
        let (id, now, size_bytes) = (upload.message_id, self.clock.now(), upload.payload.size_bytes);
        if size_bytes < LEASED_BYTES {
            return Lease::NotNeeded;
        }
        let until = now.after(lease_time(size_bytes));
        match self.uploads.lease(id, until, now).await {
            Ok(true) => Lease::Held(until),
            Ok(false) => Lease::Elsewhere,
            Err(error) => {
                log_failed_effect(id, &error, "copied an upload without the right to do it alone");
                Lease::NotNeeded
            }
        }
    }

    async fn copy_and_accept(&self, upload: &Upload, state: KeyState) -> Result<CompletedUpload, Problem> {
        let id = upload.message_id;
        let (payload, staged) = self.staged_payload(upload).await?;
        let now = self.clock.now();
        let archived = self.staging.archive(id, &staged, &payload, now).await.map_err(|error| {
            error!(record.id = %id, error.name = error.name.as_str(), %error, "could not archive an upload");
            if error.name == ErrorName::PayloadMissing { not_uploaded(id) } else { no_durable_store() }
        })?;
        let replaces = if let KeyState::Expired(claim) = state { Some(claim) } else { None };
        self.accept(upload, payload, archived, replaces).await
    }

    /// Does the work after a receipt was sent. A failed effect is logged and not repeated here: reconcile starts the workflow,
    /// and a staged payload expires.
    pub async fn follow_up(&self, completed: CompletedUpload) {
        if let Some(record) = completed.accepted
            && let Err(error) = self.workflow.start(&record.message, record.starts).await
        {
            log_failed_effect(record.id(), &error, "left the workflow start to reconcile");
        }
        if let Err(error) = self.staging.remove(completed.id).await {
            log_failed_effect(completed.id, &error, "left a staged payload to its expiry");
        }
    }

    async fn key_state(&self, upload: &Upload) -> Result<KeyState, StageError> {
        KeyState::of(&upload.key, &self.claims, &self.open_records, self.clock.now()).await
    }

    /// Returns the description of an upload's payload, and the staged payload. A payload that is sent by reference is copied to
    /// the staging area first, so that its digest is verified before the archive is written.
    async fn staged_payload(&self, upload: &Upload) -> Result<(PayloadDescriptor, StagedPayload), Problem> {
        let id = upload.message_id;
        let found = self.staging.find(id).await.map_err(|error| unavailable(&error))?;
        let staged = match (found, &upload.source) {
            (Some(staged), _) => staged,
            (None, None) => return Err(not_uploaded(id)),
            (None, Some(source)) => {
                let copied = self.staging.copy_in(upload, source).await;
                copied
                    .map_err(|error| source_problem(&source.uri, &error))?
                    .ok_or_else(|| source_changed(source))?
            }
        };
        let sha256 = staged.sha256.ok_or_else(|| {
            error!(record.id = %id, "the store has no digest of a staged payload");
            no_durable_store()
        })?;
        let announced = &upload.payload;
        if announced.size_bytes != staged.size_bytes
            || announced.sha256.is_some_and(|announced| announced != sha256)
        {
            let announced_digest =
                announced.sha256.map_or_else(|| "any".to_owned(), |sha256| sha256.to_string());
            let detail = format!(
                "the payload has {} bytes with SHA-256 {sha256}, and the request states {} bytes with SHA-256 {announced_digest}; begin \
                 again with the size and the digest of the payload",
                staged.size_bytes, announced.size_bytes
            );
            return Err(Problem::new(ProblemKind::DigestMismatch, detail));
        }
        Ok((upload.descriptor(sha256), staged))
    }

    async fn accept(
        &self,
        upload: &Upload,
        payload: PayloadDescriptor,
        archived: ArchivedObject,
        replaces: Option<Claim>,
    ) -> Result<CompletedUpload, Problem> {
        let (id, now) = (upload.message_id, self.clock.now());
        let message = message(upload, payload, archived, now);
        let (durability, look_at) = (Durability::Archived, now.after(self.first_look));
        let record = OpenRecord::begin(message, durability, Some(upload.key), now, look_at);
        let claim = Claim::new(&record.message, durability, now);
        let request = ClaimRequest { key: upload.key, claim, replaces };
        match self.open_records.accept(&record, Some(&request)).await.map_err(|error| unknown_key(&error))? {
            outcome @ (Acceptance::Accepted | Acceptance::AlreadyAccepted) => {
                let receipt = Receipt::new(&record.message, durability);
                let size_bytes = receipt.payload.size_bytes;
                info!(record.id = %id, stage = "upload", size_bytes, "acknowledged record");
                // Whoever has opened the record starts its workflow, with the message that is stored. This completion describes the
                // same record with another time.
                let accepted = (outcome == Acceptance::Accepted).then(|| Box::new(record));
                Ok(CompletedUpload { receipt, replayed: accepted.is_none(), id, accepted })
            }
            Acceptance::KeyTaken(claim) => {
                check_same_request(&claim, &record.message.payload, &upload.metadata)?;
                Ok(repeated(id, claim))
            }
        }
    }
}

/// Creates the message of an upload that is accepted now.
fn message(
    upload: &Upload,
    payload: PayloadDescriptor,
    archived: ArchivedObject,
    now: Timestamp,
) -> InternalMessage {
    let mut place = StorageContext { s3_reference: Some(archived.reference), ..StorageContext::default() };
    place.persistence.s3 = true;
    let (metadata, sender) = (upload.metadata.clone(), upload.sender.clone());
    InternalMessage {
        accepted_later_at: Some(now),
        storage_context: place,
        ..InternalMessage::new(upload.message_id, metadata, payload, sender)
    }
}

/// Repeats the receipt of the record that holds the key of upload `id`.
fn repeated(id: RecordId, claim: Claim) -> CompletedUpload {
    info!(record.id = %claim.message_id, stage = "upload", "repeated a receipt");
    CompletedUpload { receipt: Receipt::of_claim(claim), replayed: true, id, accepted: None }
}

fn log_failed_effect(id: RecordId, error: &StageError, what: &'static str) {
    warn!(record.id = %id, error.name = error.name.as_str(), %error, "{what}");
}
