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
    MAX_EVENT_BYTES,
    breaker::Breaker,
    clock::Clock as _,
    envelope::{self, Envelope, Splice},
    idempotency::IdempotencyKey,
    metadata::MessageMetaData,
    ports::Deployment,
    problem::{Problem, ProblemKind},
    proxy::{ProxyEvent, ProxyResponse},
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
    pub async fn run(&self, event: &Bytes) -> Answer {
        if within_limit(event).is_ok()
            && let Some(splice) = Splice::cut(event)
            && let Some(answer) = self.run_spliced(event, &splice).await
        {
            return answer;
        }
        let request: ProxyEvent<'_> = match serde_json::from_slice(event) {
            Ok(request) => request,
            Err(error) => {
                let problem = Problem::new(
                    ProblemKind::MalformedRequest,
                    format!(
                        "the request is not text that can be read ({}); send UTF-8",
                        crate::json::error_text(&error)
                    ),
                );
                return self.refuse(event, None, problem.into());
            }
        };
        let body = within_limit(event).and_then(|()| envelope::body(&request));
        let envelope = body.as_ref().map_err(Clone::clone).and_then(|body| envelope::open(&request, body));
        self.answer(event, &request, envelope).await
    }

    /// Answers an event whose payload was cut out; `None`, and nothing is done, where the event must be read in whole. Every
    /// problem is such a case: the whole event tells where it is.
    async fn run_spliced(&self, event: &Bytes, splice: &Splice<'_>) -> Option<Answer> {
        let request: ProxyEvent<'_> = serde_json::from_str(&splice.remainder).ok()?;
        let body = envelope::body(&request).ok()?;
        let mut envelope = envelope::open(&request, &body).ok()?;
        if !splice.put_back(&mut envelope.payload) {
            return None;
        }
        Some(self.answer(event, &request, Ok(envelope)).await)
    }

    async fn answer(
        &self,
        event: &Bytes,
        request: &ProxyEvent<'_>,
        envelope: Result<Envelope<'_>, Problem>,
    ) -> Answer {
        let taken = match envelope {
            // Boxed: the nested futures of SDK calls are otherwise more than the compiler lays out.
            Ok(envelope) => Box::pin(self.take(request, envelope)).await,
            Err(problem) => Err(problem.into()),
        };
        match taken {
            Ok(Taken { receipt, replayed, follow_up }) => {
                let response = ProxyResponse::accepted(&receipt);
                Answer { response: if replayed { response.replayed() } else { response }, follow_up }
            }
            Err(refusal) => self.refuse(event, request.request_context.request_id.as_deref(), refusal),
        }
    }

    async fn take(&self, request: &ProxyEvent<'_>, envelope: Envelope<'_>) -> Result<Taken, Refusal> {
        let key = idempotency_key(request, &envelope.meta_data, envelope.is_cloud_event)?;
        let taken = match key {
            None => Box::pin(self.accept(request, envelope)).await?,
            Some(key) => Box::pin(self.accept_once(key, request, envelope)).await?,
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

    fn refuse(&self, event: &Bytes, request_id: Option<&str>, refusal: Refusal) -> Answer {
        let Refusal { problem, unlink } = refusal;
        let response = ProxyResponse::refused(&problem, request_id);
        let follow_up = FollowUp::rejected(event.clone(), request_id, problem, self.clock.now());
        Answer { response, follow_up: follow_up.and_unlink(unlink) }
    }
}

fn within_limit(event: &[u8]) -> Result<(), Problem> {
    if event.len() <= MAX_EVENT_BYTES {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::TooLarge,
        format!(
            "the request makes an event of {} bytes and the limit is {MAX_EVENT_BYTES}; \
             send a smaller payload (base64 grows it by a third, a binary CloudEvent likewise)",
            event.len()
        ),
    ))
}

/// The request's key: the header's, else the CloudEvent's own identity.
fn idempotency_key(
    request: &ProxyEvent<'_>,
    meta_data: &MessageMetaData,
    is_cloud_event: bool,
) -> Result<Option<IdempotencyKey>, Problem> {
    let context = &request.request_context;
    let authorized = context.authorizer.as_ref().and_then(|authorizer| authorizer.principal_id.as_deref());
    let identity = &context.identity;
    let caller =
        identity.api_key_id.as_deref().or(authorized).or(identity.user_arn.as_deref()).unwrap_or_default();
    if let Some(header) = request.header("idempotency-key") {
        return IdempotencyKey::of_header(caller, header).map(Some);
    }
    let event_id = meta_data.source_transaction_id().filter(|_| is_cloud_event);
    Ok(event_id.map(|id| IdempotencyKey::of_event(caller, meta_data.source_system_id(), id)))
}
