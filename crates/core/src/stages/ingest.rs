//! Ingest: from a request to a receipt.
//!
//! *Invariant:* a receipt is sent only after payload and intent are stored together, confirmed by the wanted
//! replicas, or in the archive with a marker. What comes after that point cannot fail the request.

use bytes::Bytes;
use tracing::{error, info, warn};

use crate::{
    MAX_EVENT_BYTES,
    clock::Clock,
    digest::Sha256,
    envelope,
    error::StageError,
    message::{InternalMessage, PayloadDescriptor, SecurityContext},
    ports::{PayloadArchive, PayloadCache, PendingMarkers, Salvage, Workflow},
    problem::{Problem, ProblemKind},
    proxy::{ProxyEvent, ProxyResponse},
    receipt::{Durability, Receipt},
    record_id::RecordId,
    rejected_request::RejectedRequest,
};

/// The ingest stage over its ports.
#[derive(Debug)]
pub struct Ingest<C, A, M, W, S, K> {
    /// Takes the record.
    pub cache: C,
    /// Takes the payload when the cache cannot.
    pub archive: A,
    /// Takes the intent when the cache cannot.
    pub markers: M,
    /// Takes the record to its end.
    pub workflow: W,
    /// Takes requests that cannot become records.
    pub salvage: S,
    /// Tells the time.
    pub clock: K,
}

impl<C, A, M, W, S, K> Ingest<C, A, M, W, S, K>
where
    C: PayloadCache,
    A: PayloadArchive,
    M: PendingMarkers,
    W: Workflow,
    S: Salvage,
    K: Clock,
{
    /// Answers one API Gateway proxy event, given as the JSON text that Lambda delivered.
    ///
    /// Always an answer: what is wrong with a request or with the stores is told to the producer as a problem,
    /// and the request is handed to the failure function first.
    pub async fn run(&self, event: &str) -> ProxyResponse {
        let request: ProxyEvent<'_> = match serde_json::from_str(event) {
            Ok(request) => request,
            Err(error) => {
                let problem = Problem::new(
                    ProblemKind::MalformedRequest,
                    format!(
                        "the request is not text that can be read ({}); send UTF-8",
                        crate::json::error_text(&error)
                    ),
                );
                return self.refuse(event, None, problem).await;
            }
        };
        let request_id = request.request_context.request_id.clone();
        match self.take(event, request).await {
            Ok(receipt) => ProxyResponse::accepted(&receipt),
            Err(problem) => self.refuse(event, request_id.as_deref(), problem).await,
        }
    }

    async fn take(&self, event: &str, request: ProxyEvent<'_>) -> Result<Receipt, Problem> {
        if event.len() > MAX_EVENT_BYTES {
            return Err(Problem::new(
                ProblemKind::TooLarge,
                format!(
                    "the request makes an event of {} bytes and the limit is {MAX_EVENT_BYTES}; \
                     send a smaller payload (base64 grows it by a third, a binary CloudEvent likewise)",
                    event.len()
                ),
            ));
        }
        let body = envelope::body(&request)?;
        let envelope = envelope::open(&request, &body)?;
        let payload = envelope.payload;
        let descriptor = PayloadDescriptor {
            sha256: Sha256::of(&payload.bytes),
            size_bytes: payload.bytes.len() as u64,
            content_type: payload.content_type,
            encoding: payload.encoding,
        };
        let security_context = SecurityContext::from(request.request_context.clone());
        let id = RecordId::mint(self.clock.now());
        let message = InternalMessage::new(id, envelope.meta_data, descriptor, security_context);

        let (message, durability) = self.make_durable(message, &payload.bytes).await?;

        // From here on the record cannot be lost: a start that fails, or whose reply is lost, is made up for
        // by reconcile, which finds the pending entry.
        if let Err(error) = self.workflow.start(&message).await {
            warn!(record.id = %id, error.name = error.name.as_str(), %error, "left the workflow start to reconcile");
        }
        info!(
            record.id = %id,
            stage = "ingest",
            size_bytes = message.payload.size_bytes,
            ?durability,
            "acknowledged record"
        );
        Ok(Receipt::new(&message, durability))
    }

    /// Stores payload and intent, in the cache or else in the archive.
    async fn make_durable(
        &self,
        mut message: InternalMessage,
        payload: &[u8],
    ) -> Result<(InternalMessage, Durability), Problem> {
        let id = message.message_id;
        message.storage_context.redis_reference = Some(self.cache.reference(id));
        let cache_error = match self.cache.put(&message, payload).await {
            Ok(()) => return Ok((message, Durability::Replicated)),
            Err(error) => error,
        };
        warn!(record.id = %id, error.name = cache_error.name.as_str(), error = %cache_error, "fell back to the archive");
        message.storage_context.redis_reference = None;
        self.archive_directly(&mut message, payload).await.map_err(|archive_error| {
            error!(record.id = %id, error.name = archive_error.name.as_str(), error = %archive_error, "no store took the record");
            Problem::new(
                ProblemKind::NoDurableStore,
                "neither the cache nor the archive could take the record; nothing was acknowledged, send it again later",
            )
        })?;
        Ok((message, Durability::Archived))
    }

    /// Payload first, marker second: a marker without its payload would promise what is not there, while a
    /// payload without its marker is an orphan that nobody was promised.
    async fn archive_directly(
        &self,
        message: &mut InternalMessage,
        payload: &[u8],
    ) -> Result<(), StageError> {
        let key = message.message_id.archive_key();
        let reference = self.archive.store(&key, Bytes::copy_from_slice(payload), &message.payload).await?;
        message.storage_context.s3_reference = Some(reference);
        message.storage_context.persistence.s3 = true;
        self.markers.mark(message).await
    }

    async fn refuse(&self, event: &str, request_id: Option<&str>, problem: Problem) -> ProxyResponse {
        let rejected = RejectedRequest::new(event, request_id, &problem, self.clock.now());
        match self.salvage.salvage(&rejected).await {
            Ok(()) => warn!(
                request.id = request_id,
                error.name = problem.kind.error_name(),
                path = problem.path,
                offset = problem.offset,
                "refused request"
            ),
            Err(error) => error!(
                request.id = request_id,
                error.name = problem.kind.error_name(),
                salvage.error = %error,
                "refused request, which could not be salvaged"
            ),
        }
        ProxyResponse::refused(&problem, request_id)
    }
}
