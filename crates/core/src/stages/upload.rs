//! Upload: accepts payloads that do not pass through a function. It begins uploads, shows them, and completes them.
//!
//! *Invariant:* completing an upload is the acceptance of its record. The payload is in the archive before, and S3 has verified its
//! digest. An upload that nobody completes expires and leaves nothing. If the process dies between archive and acceptance, and nobody completes
//! the upload again, the archive has an object that no receipt promises; `custody fsck` counts it.

mod problems;
mod request;
mod transfers;
mod view;

use std::{future::Future, pin::pin, sync::Arc};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use tracing::{info, warn};

pub use self::transfers::{CompletedUpload, Completion, NewUpload, Transfers};
use self::{
    request::{UploadRequest, read},
    view::UploadView,
};
use crate::{
    access::{Access, AccessControl, AccessEntry, check_is_producer, check_write},
    clock::Clock as _,
    idempotency::IdempotencyKey,
    message::SecurityContext,
    ports::Deployment,
    problem::{Problem, ProblemKind},
    proxy::{ProxyResponse, RequestContext},
    receipt::Receipt,
    record_id::RecordId,
    upload::Upload,
};

/// The upload stage over its ports.
pub struct UploadApi<D: Deployment> {
    /// The access control, which knows who may write which records.
    pub access: AccessControl<D::Access>,
    /// The uploads.
    pub transfers: Transfers<D>,
}

/// The answer to a request, and the work to do after the answer was sent.
pub struct Answer {
    /// The answer for the producer.
    pub response: ProxyResponse,
    /// The work to do after the response was sent.
    pub follow_up: FollowUp,
}

/// The work to do after a response was sent.
#[must_use = "a follow-up must be run"]
pub enum FollowUp {
    Nothing,
    /// An upload was completed.
    Completed(Box<CompletedUpload>),
    /// An upload is still being completed.
    Completing(BoxFuture<'static, Result<Completion, Problem>>),
}

impl<D: Deployment> UploadApi<D> {
    /// Answers one API Gateway proxy event, given as the JSON text that Lambda delivered. Every problem is reported to the caller
    /// as problem details. `patience` ends when the caller must get an answer: an upload whose completion takes longer is
    /// completed after the response.
    pub async fn run(self: Arc<Self>, event: &Bytes, patience: impl Future<Output = ()> + Send) -> Answer {
        let (request, context) = match read(event) {
            Ok(read) => read,
            Err(problem) => return ProxyResponse::of_problem(&problem, None).into(),
        };
        let request_id = context.request_id.clone();
        match Box::pin(self.answer(request, context, patience)).await {
            Ok(answer) => answer,
            Err(problem) => {
                info!(
                    request.id = request_id.as_deref(),
                    problem = problem.kind.slug(),
                    stage = "upload",
                    "refused a request"
                );
                ProxyResponse::of_problem(&problem, request_id.as_deref()).into()
            }
        }
    }

    /// Does the work after the response. If the process dies during this work, reconcile starts the workflow of an accepted
    /// record, and a producer completes an upload again that was not completed.
    pub async fn follow_up(&self, follow_up: FollowUp) {
        let completed = match follow_up {
            FollowUp::Nothing => return,
            FollowUp::Completed(completed) => *completed,
            FollowUp::Completing(completing) => match completing.await {
                Ok(Completion::Completed(completed)) => completed,
                // Another completion does the rest.
                Ok(Completion::Copying) => return,
                Err(problem) => {
                    warn!(
                        error.name = problem.kind.error_name(),
                        detail = problem.detail,
                        "did not complete an upload"
                    );
                    return;
                }
            },
        };
        self.transfers.follow_up(completed).await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Result<UploadRequest, Problem>,
        context: RequestContext,
        patience: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Problem> {
        let access = Access::new(&context, "upload");
        let entry = self.access.entry_of(&context, self.transfers.clock.now()).await;
        let entry = entry.inspect_err(|problem| access.denied_by(problem))?;
        let access = Access { principal: Some(&entry.principal), ..access };
        check_is_producer(&entry).inspect_err(|problem| access.denied_by(problem))?;
        match request? {
            UploadRequest::Begin(begin) => {
                let source = begin.metadata.source_system_id();
                let access = Access { source_system_id: Some(source), ..access };
                check_write(&entry, source).inspect_err(|problem| access.denied_by(problem))?;
                self.begin(*begin, &entry, context).await.map(Answer::from)
            }
            UploadRequest::Show(id) => {
                let upload = self.own_upload(id, &entry, access).await?;
                Ok(ProxyResponse::json(&self.view(&upload, 1).await?).into())
            }
            UploadRequest::Complete(id) => {
                let upload = self.own_upload(id, &entry, access).await?;
                self.complete(upload, patience).await
            }
        }
    }

    async fn begin(
        &self,
        request: request::BeginUpload,
        entry: &AccessEntry,
        context: RequestContext,
    ) -> Result<ProxyResponse, Problem> {
        let request::BeginUpload { metadata, payload, idempotency_key } = request;
        let key =
            idempotency_key.map(|header| IdempotencyKey::of_header(&entry.principal, &header)).transpose()?;
        let sender = SecurityContext::of_principal(context, &entry.principal);
        let (upload, is_new) =
            self.transfers.begin(NewUpload { metadata, payload, source: None, key, sender }).await?;
        let view = self.view(&upload, 0).await?;
        Ok(if is_new {
            ProxyResponse::created(&view, &view.links.itself)
        } else {
            ProxyResponse::json(&view).replayed()
        })
    }

    async fn complete(
        self: Arc<Self>,
        upload: Upload,
        patience: impl Future<Output = ()> + Send,
    ) -> Result<Answer, Problem> {
        let id = upload.message_id;
        let stage = Arc::clone(&self);
        let completing = async move { Box::pin(stage.transfers.complete(&upload)).await }.boxed();
        let completing = match select(completing, pin!(patience)).await {
            Either::Left((completion, _)) => match completion? {
                Completion::Completed(completed) => return Ok(completed.into()),
                Completion::Copying => FollowUp::Nothing,
            },
            Either::Right(((), completing)) => FollowUp::Completing(completing),
        };
        let view = UploadView::completing(id);
        let response = ProxyResponse::accepted_for_later(&view, &view.links.itself);
        Ok(Answer { response, follow_up: completing })
    }

    /// Returns an upload that this principal has begun. The problem does not tell an unknown upload from another principal's.
    async fn own_upload(
        &self,
        id: RecordId,
        entry: &AccessEntry,
        access: Access<'_>,
    ) -> Result<Upload, Problem> {
        let upload = self.transfers.find(id).await?.ok_or_else(|| unknown_upload(id))?;
        let source = upload.metadata.source_system_id();
        let access = Access { record: Some(id), source_system_id: Some(source), ..access };
        if upload.principal() != entry.principal {
            access.denied("the upload is of another principal");
            return Err(unknown_upload(id));
        }
        // The rights of the principal may have changed since it began the upload.
        check_write(entry, source).inspect_err(|problem| access.denied_by(problem))?;
        Ok(upload)
    }

    async fn view(&self, upload: &Upload, depth: usize) -> Result<UploadView, Problem> {
        Ok(UploadView::of(upload, self.transfers.state(upload).await?, depth))
    }
}

fn unknown_upload(id: RecordId) -> Problem {
    Problem::new(
        ProblemKind::UnknownUpload,
        format!("this caller has no upload {id}, or it has expired; begin one with POST /uploads"),
    )
}

impl From<ProxyResponse> for Answer {
    fn from(response: ProxyResponse) -> Self {
        Self { response, follow_up: FollowUp::Nothing }
    }
}

impl From<CompletedUpload> for Answer {
    fn from(completed: CompletedUpload) -> Self {
        // The receipt's links are relative to `/uploads/{uploadID}/complete`.
        let response = ProxyResponse::accepted(&Receipt::below(&completed.receipt, 2));
        let response = if completed.replayed { response.replayed() } else { response };
        Self { response, follow_up: FollowUp::Completed(Box::new(completed)) }
    }
}

#[cfg(test)]
mod tests;
