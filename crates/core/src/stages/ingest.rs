//! Ingest: accepts a request and answers it with a receipt.
//!
//! *Invariant:* ingest sends a receipt only after the acceptance: one conditional write, made after the payload is
//! durable. Work that a receipt does not promise is left to the [`FollowUp`], which runs after the response has been
//! sent.

mod durability;
mod follow_up;
mod keyed;
mod referenced;
mod unkeyed;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::info;

pub use self::follow_up::FollowUp;
use crate::{
    access::{Access, AccessControl, AccessEntry, check_is_producer, check_reference, check_write},
    breaker::Breaker,
    clock::Clock as _,
    envelope::{self, Content, OriginalEvent, Payload, ReadEvent, Request, UnreadableEvent},
    idempotency::IdempotencyKey,
    message::SecurityContext,
    metadata::MessageMetadata,
    ports::Deployment,
    problem::{Problem, ProblemKind},
    proxy::{ProxyResponse, RequestContext},
    receipt::{Durability, Receipt},
    record_id::RecordId,
    stages::upload::Transfers,
};

/// The time for which ingest does not call the open-record table after a failure of it. The time is long, so that in an
/// outage only a few requests wait for a time-out. It is shorter than `Retry-After` (5 s), so that a producer who waits
/// as told finds the table available again.
pub const TABLE_BREAKER_PAUSE: Duration = Duration::from_secs(3);

/// The ingest stage over its ports.
pub struct Ingest<D: Deployment> {
    /// The access control, which knows who may write which records.
    pub access: AccessControl<D::Access>,
    /// The cache, which stores the payload.
    pub cache: D::Cache,
    /// The archive, which stores the payload if the cache cannot.
    pub archive: D::Archive,
    /// The open-record table, which stores the acceptance.
    pub open_records: D::OpenRecords,
    /// The idempotency table, which has the claim of each idempotency key.
    pub claims: D::Claims,
    /// The acceptance markers, which store the acceptance while the open-record table is not available.
    pub markers: D::Markers,
    /// The workflow, which processes accepted records.
    pub workflow: D::Workflow,
    /// The failed bucket, which stores requests that were not accepted.
    pub failed_store: D::FailedStore,
    /// The dead-letter queue, to which ingest reports requests that no store could take.
    pub dead_letters: D::DeadLetters,
    /// The queue of rejected requests, for requests that their producers must change.
    pub rejected_requests: D::DeadLetters,
    /// The uploads, for payloads that are sent by reference.
    pub transfers: Transfers<D>,
    pub clock: D::Clock,
    /// The breaker that remembers a recent failure of the open-record table.
    pub table_breaker: Breaker,
    /// The time from a record's acceptance to reconcile's first look at it.
    pub first_look: Duration,
}

/// The result of ingest: the answer to a request, and the work to do after the answer was sent.
#[derive(Debug)]
pub struct Answer {
    /// The answer for the producer.
    pub response: ProxyResponse,
    /// The work to do after the response was sent.
    pub follow_up: FollowUp,
    /// What became of the request, for the metrics.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request was answered with a receipt.
    Acknowledged {
        durability: Durability,
        size_bytes: u64,
        /// Whether the receipt repeats the receipt of an earlier request.
        replayed: bool,
        /// Whether the payload is in the archive because the cache did not take it.
        fell_back: bool,
    },
    /// The request was answered with a problem.
    Rejected(ProblemKind),
}

/// A record that a request carries.
struct NewRecord {
    metadata: MessageMetadata,
    payload: Payload,
    /// The least durability that the producer accepts.
    durability: Option<Durability>,
    sender: SecurityContext,
}

/// A request that is answered with a receipt.
struct AcknowledgedRequest {
    receipt: Receipt,
    /// Whether the receipt repeats the receipt of an earlier request with the same idempotency key.
    replayed: bool,
    /// Whether the payload is in the archive because the cache did not take it.
    fell_back: bool,
    follow_up: FollowUp,
}

impl AcknowledgedRequest {
    fn first(receipt: Receipt, follow_up: FollowUp) -> Self {
        Self { receipt, replayed: false, fell_back: false, follow_up }
    }

    fn replay(receipt: Receipt, follow_up: FollowUp) -> Self {
        Self { receipt, replayed: true, fell_back: false, follow_up }
    }
}

impl From<AcknowledgedRequest> for Answer {
    fn from(acknowledged: AcknowledgedRequest) -> Self {
        let AcknowledgedRequest { receipt, replayed, fell_back, follow_up } = acknowledged;
        let response = ProxyResponse::accepted(&receipt);
        let outcome = Outcome::Acknowledged {
            durability: receipt.durability,
            size_bytes: receipt.payload.size_bytes,
            replayed,
            fell_back,
        };
        Self { response: if replayed { response.replayed() } else { response }, follow_up, outcome }
    }
}

/// A request that is answered with a problem.
struct ProblemAnswer {
    problem: Problem,
    /// The id of a payload to remove from the cache. No record was accepted under this id.
    unlink: Option<RecordId>,
}

impl From<Problem> for ProblemAnswer {
    fn from(problem: Problem) -> Self {
        Self { problem, unlink: None }
    }
}

impl<D: Deployment> Ingest<D> {
    /// Answers one API Gateway proxy event, given as the JSON text that Lambda delivered.
    ///
    /// Ingest always returns an answer. Problems of the request or of the stores are reported to the producer as
    /// problem details.
    pub async fn run(&self, event: Bytes) -> Answer {
        let ReadEvent { request, context, original } = match envelope::read(event) {
            Ok(read) => read,
            Err(unreadable) => {
                let UnreadableEvent { problem, original } = *unreadable;
                return self.answer_with_problem(problem.into(), original, None);
            }
        };
        let request_id = context.request_id.clone();
        // The future is boxed, because the compiler cannot compute the layout of the nested futures of the SDK calls.
        match Box::pin(self.answer_request(request, context)).await {
            Ok(acknowledged) => acknowledged.into(),
            Err(problem) => self.answer_with_problem(problem, original, request_id),
        }
    }

    /// Accepts a request that its caller may make.
    async fn answer_request(
        &self,
        request: Result<Request, Problem>,
        context: RequestContext,
    ) -> Result<AcknowledgedRequest, ProblemAnswer> {
        let (entry, request) = self.authorize(request, &context).await?;
        self.accept(request, &entry, context).await
    }

    /// Returns the access entry of the caller, and the request if the caller may make it. The caller is checked before the
    /// request: nothing is stored of a request of an unknown caller, not even of one that cannot be read.
    async fn authorize(
        &self,
        request: Result<Request, Problem>,
        context: &RequestContext,
    ) -> Result<(Arc<AccessEntry>, Request), Problem> {
        let source_system_id = request.as_ref().ok().map(|request| request.metadata.source_system_id());
        let access = Access { source_system_id, ..Access::new(context, "write") };
        let entry = self.access.entry_of(context, self.clock.now()).await;
        let entry = entry.inspect_err(|problem| access.denied_by(problem))?;
        let access = Access { principal: Some(&entry.principal), ..access };
        check_is_producer(&entry).inspect_err(|problem| access.denied_by(problem))?;
        if let Some(source) = source_system_id {
            check_write(&entry, source).inspect_err(|problem| access.denied_by(problem))?;
        }
        if let Ok(Request { content: Content::Reference(reference), .. }) = &request {
            check_reference(&entry, &reference.uri).inspect_err(|problem| access.denied_by(problem))?;
        }
        Ok((entry, request?))
    }

    /// Makes the payload of a request durable and accepts its record, or repeats the receipt of an earlier request.
    async fn accept(
        &self,
        request: Request,
        entry: &AccessEntry,
        context: RequestContext,
    ) -> Result<AcknowledgedRequest, ProblemAnswer> {
        self.check_durability(request.durability)?;
        let key = idempotency_key(&request, &entry.principal)?;
        let sender = SecurityContext::of_principal(context, &entry.principal);
        let Request { metadata, content, durability, warnings, .. } = request;
        // A payload that is sent by reference never goes to the cache.
        let is_for_the_cache =
            matches!(content, Content::Payload(_)) && durability != Some(Durability::Archived);
        let mut acknowledged = match content {
            Content::Reference(reference) => {
                Box::pin(self.accept_reference(key, metadata, reference, sender)).await?
            }
            Content::Payload(payload) => {
                let new = NewRecord { metadata, payload, durability, sender };
                match key {
                    None => Box::pin(self.accept_without_key(new)).await?,
                    Some(key) => Box::pin(self.accept_with_key(key, new)).await?,
                }
            }
        };
        acknowledged.receipt = acknowledged.receipt.with(warnings);
        acknowledged.fell_back = is_for_the_cache
            && !acknowledged.replayed
            && acknowledged.receipt.durability == Durability::Archived;
        info!(
            record.id = %acknowledged.receipt.message_id,
            stage = "ingest",
            size_bytes = acknowledged.receipt.payload.size_bytes,
            durability = ?acknowledged.receipt.durability,
            replayed = acknowledged.replayed,
            "acknowledged record"
        );
        Ok(acknowledged)
    }

    fn answer_with_problem(
        &self,
        ProblemAnswer { problem, unlink }: ProblemAnswer,
        original: OriginalEvent,
        request_id: Option<String>,
    ) -> Answer {
        let response = ProxyResponse::of_problem(&problem, request_id.as_deref());
        let outcome = Outcome::Rejected(problem.kind);
        let follow_up = FollowUp::rejected(original, request_id, problem, self.clock.now());
        Answer { response, follow_up: follow_up.and_unlink(unlink), outcome }
    }
}

/// Returns the request's idempotency key: the header `Idempotency-Key`, or else the source and id of the CloudEvent.
/// `None` if the request has neither.
fn idempotency_key(request: &Request, principal: &str) -> Result<Option<IdempotencyKey>, Problem> {
    let Request { idempotency_key, metadata, is_cloud_event, .. } = request;
    if let Some(header) = idempotency_key {
        return IdempotencyKey::of_header(principal, header).map(Some);
    }
    let event_id = metadata.source_transaction_id().filter(|_| *is_cloud_event);
    Ok(event_id.map(|id| IdempotencyKey::of_event(principal, metadata.source_system_id(), id)))
}

#[cfg(test)]
mod tests;
