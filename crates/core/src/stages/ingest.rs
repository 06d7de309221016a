//! Ingest: from a request to a receipt.
//!
//! *Invariant:* a receipt is sent only after acceptance: one conditional write, made after the payload is durable. Whatever a
//! receipt does not promise is left to the [`FollowUp`], which runs after the response has been sent.

mod acceptance;
mod follow_up;

use std::time::Duration;

use bytes::Bytes;
use tracing::info;

pub use self::follow_up::FollowUp;
use crate::{
    breaker::Breaker,
    clock::Clock as _,
    envelope::{self, ReadEvent, Request},
    idempotency::IdempotencyKey,
    ports::Deployment,
    problem::Problem,
    proxy::ProxyResponse,
    receipt::Receipt,
    record_id::RecordId,
};

/// How long requests leave the open-record table alone after it failed: long enough to keep an outage from costing every
/// request a time-out, short enough that producers who are asked to wait find it mended.
pub const TABLE_PAUSE: Duration = Duration::from_secs(3);

/// The ingest stage over its ports.
pub struct Ingest<D: Deployment> {
    /// Takes the payload.
    pub cache: D::Cache,
    /// Takes the payload when the cache cannot.
    pub archive: D::Archive,
    /// Takes the acceptance.
    pub open: D::Open,
    /// Knows which record an idempotency key stands for.
    pub claims: D::Claims,
    /// Takes the acceptance while the open-record table is away.
    pub markers: D::Markers,
    /// Takes the record to its end.
    pub workflow: D::Workflow,
    /// Takes what can be kept of rejected requests.
    pub failed_store: D::Failed,
    /// Tells operators of requests that no store could take.
    pub dead_letters: D::Letters,
    /// Tells operators of requests that their producers must change.
    pub rejected_requests: D::Letters,
    /// Tells the time.
    pub clock: D::Time,
    /// Remembers that the open-record table was away a moment ago.
    pub table_breaker: Breaker,
    /// How long after its acceptance reconcile looks at a record first.
    pub first_look: Duration,
}

/// What ingest has to say, and what it has to do after that was said.
#[derive(Debug)]
pub struct Answer {
    /// The answer for the producer.
    pub response: ProxyResponse,
    /// The work that the answer does not wait for.
    pub follow_up: FollowUp,
}

/// A request that was taken.
struct Taken {
    receipt: Receipt,
    /// Whether the receipt is that of an earlier request.
    replayed: bool,
    follow_up: FollowUp,
}

/// A request that was not taken.
struct Refusal {
    problem: Problem,
    /// The payload that the cache holds in vain.
    unlink: Option<RecordId>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, unlink: None }
    }
}

impl<D: Deployment> Ingest<D> {
    /// Answers one API Gateway proxy event, given as the JSON text that Lambda delivered.
    ///
    /// Always an answer: what is wrong with a request or with the stores is told to the producer as a problem.
    pub async fn run(&self, event: Bytes) -> Answer {
        let ReadEvent { request, request_id, original } = envelope::read(event);
        let taken = match request {
            // Boxed: the nested futures of SDK calls are otherwise more than the compiler lays out.
            Ok(request) => Box::pin(self.take(request)).await,
            Err(problem) => Err(problem.into()),
        };
        match taken {
            Ok(Taken { receipt, replayed, follow_up }) => {
                let response = ProxyResponse::accepted(&receipt);
                Answer { response: if replayed { response.replayed() } else { response }, follow_up }
            }
            Err(Refusal { problem, unlink }) => {
                let response = ProxyResponse::refused(&problem, request_id.as_deref());
                let follow_up = FollowUp::rejected(original, request_id, problem, self.clock.now());
                Answer { response, follow_up: follow_up.and_unlink(unlink) }
            }
        }
    }

    async fn take(&self, request: Request) -> Result<Taken, Refusal> {
        let taken = match idempotency_key(&request)? {
            None => Box::pin(self.accept(request)).await?,
            Some(key) => Box::pin(self.accept_once(key, request)).await?,
        };
        info!(
            record.id = %taken.receipt.message_id,
            stage = "ingest",
            size_bytes = taken.receipt.payload.size_bytes,
            durability = ?taken.receipt.durability,
            replayed = taken.replayed,
            "acknowledged record"
        );
        Ok(taken)
    }
}

/// The request's key: the header's, else the CloudEvent's own identity.
fn idempotency_key(request: &Request) -> Result<Option<IdempotencyKey>, Problem> {
    let Request { context, idempotency_key, meta_data, is_cloud_event, .. } = request;
    let authorized = context.authorizer.as_ref().and_then(|authorizer| authorizer.principal_id.as_deref());
    let identity = &context.identity;
    let caller =
        identity.api_key_id.as_deref().or(authorized).or(identity.user_arn.as_deref()).unwrap_or_default();
    if let Some(header) = idempotency_key {
        return IdempotencyKey::of_header(caller, header).map(Some);
    }
    let event_id = meta_data.source_transaction_id().filter(|_| *is_cloud_event);
    Ok(event_id.map(|id| IdempotencyKey::of_event(caller, meta_data.source_system_id(), id)))
}

#[cfg(test)]
mod tests;
