//! Ingest: from a request to a receipt.
//!
//! *Invariant:* a receipt is sent only after payload and intent are stored together, confirmed by the wanted
//! replicas, or in the archive with a marker. What comes after that point cannot fail the request.

use futures_util::future;
use tracing::{error, info, warn};

use crate::{
    MAX_EVENT_BYTES,
    clock::Clock,
    content::Content,
    digest::Sha256,
    envelope::{self, Envelope, Splice},
    error::StageError,
    idempotency::{Claim, IdempotencyKey},
    intake::Intake,
    message::{InternalMessage, PayloadDescriptor, SecurityContext},
    metadata::MessageMetaData,
    ports::{IdempotencyClaims, PayloadArchive, PayloadCache, PendingMarkers, Salvage, Workflow},
    problem::{Problem, ProblemKind},
    proxy::{ProxyEvent, ProxyResponse},
    receipt::{Durability, Receipt},
    record_id::RecordId,
    rejected_request::RejectedRequest,
};

/// The ingest stage over its ports.
#[derive(Debug)]
pub struct Ingest<C, A, M, W, S, K> {
    /// Takes the record, and the claims of idempotency keys.
    pub cache: C,
    /// Takes the payload when the cache cannot.
    pub archive: A,
    /// Takes the intent, and the claims, when the cache cannot.
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
    C: PayloadCache + IdempotencyClaims,
    A: PayloadArchive,
    M: PendingMarkers + IdempotencyClaims,
    W: Workflow,
    S: Salvage,
    K: Clock,
{
    /// Answers one API Gateway proxy event, given as the JSON text that Lambda delivered.
    ///
    /// Always an answer: what is wrong with a request or with the stores is told to the producer as a problem,
    /// and the request is handed to the failure function first.
    pub async fn run(&self, event: &[u8]) -> ProxyResponse {
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
                return self.refuse(event, None, problem).await;
            }
        };
        let body = within_limit(event).and_then(|()| envelope::body(&request));
        let envelope = body.as_ref().map_err(Clone::clone).and_then(|body| envelope::open(&request, body));
        self.answer(event, &request, envelope).await
    }

    /// Answers an event whose payload was cut out; `None`, and nothing is done, where the event must be read in whole. Every
    /// problem is such a case: the whole event tells where it is.
    async fn run_spliced(&self, event: &[u8], splice: &Splice<'_>) -> Option<ProxyResponse> {
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
        event: &[u8],
        request: &ProxyEvent<'_>,
        envelope: Result<Envelope<'_>, Problem>,
    ) -> ProxyResponse {
        let taken = match envelope {
            Ok(envelope) => self.take(request, envelope).await,
            Err(problem) => Err(problem),
        };
        match taken {
            Ok(Taken::Stored(receipt)) => ProxyResponse::accepted(&receipt),
            Ok(Taken::Replayed(receipt)) => ProxyResponse::accepted(&receipt).replayed(),
            Err(problem) => self.refuse(event, request.request_context.request_id.as_deref(), problem).await,
        }
    }

    async fn take(&self, request: &ProxyEvent<'_>, envelope: Envelope<'_>) -> Result<Taken, Problem> {
        let payload = envelope.payload;
        let mut descriptor = PayloadDescriptor {
            // The store that reads the payload works it out on the way.
            sha256: Sha256::UNREAD,
            size_bytes: payload.content.len() as u64,
            content_type: payload.content_type,
            encoding: payload.encoding,
        };
        let security_context = SecurityContext::from(request.request_context.clone());
        let key = idempotency_key(request, &envelope.meta_data, envelope.is_cloud_event)?;

        let (id, store, replayed) = match &key {
            None => (self.clock.mint(), Store::Any, false),
            Some(key) => {
                descriptor.sha256 = payload.content.sha256();
                match self.claim(key, &descriptor).await? {
                    Claimed::Stored(receipt) => return Ok(Taken::Replayed(receipt)),
                    Claimed::ToStore { id, store, replayed } => (id, store, replayed),
                }
            }
        };
        let mut message = InternalMessage::new(id, envelope.meta_data, descriptor, security_context);
        let durability = self.make_durable(&mut message, &payload.content, key.as_ref(), store).await?;

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
            replayed,
            "acknowledged record"
        );
        let receipt = Receipt::new(&message, durability);
        Ok(if replayed { Taken::Replayed(receipt) } else { Taken::Stored(receipt) })
    }

    /// Ties the request to its key. Where no store can say what the key stands for, the request is refused: taking it
    /// could make a second record.
    async fn claim(&self, key: &IdempotencyKey, payload: &PayloadDescriptor) -> Result<Claimed, Problem> {
        let own = Claim::new(self.clock.mint().in_shard(key.shard()), payload);
        // Both at once: a first request may have come while the cache was away, and be sent again now that it is back.
        let (cached, noted) = future::join(self.cache.claim(key, &own), self.markers.find(key)).await;
        let noted = noted.unwrap_or_else(|error| {
            warn!(error.name = error.name.as_str(), %error, "could not ask for claims from a time without cache");
            None
        });
        let (held, store) = match (cached, noted) {
            (Ok(held), Some(noted)) => (the_one_to_repeat(held, noted), Store::Any),
            (Ok(held), None) => (held, Store::Any),
            (Err(error), noted) => {
                warn!(error.name = error.name.as_str(), %error, "the cache cannot tell idempotency keys apart");
                let held = match noted {
                    Some(held) => held,
                    None => self.markers.claim(key, &own).await.map_err(|error| {
                        error!(error.name = error.name.as_str(), %error, "no store can tell idempotency keys apart");
                        no_durable_store()
                    })?,
                };
                // What just failed is not asked again: the request's time is for the archive now.
                (held, Store::Archive)
            }
        };
        if held.payload.sha256 != own.payload.sha256 {
            return Err(Problem::new(
                ProblemKind::IdempotencyConflict,
                format!(
                    "the idempotency key (Idempotency-Key, or a CloudEvent's source and id) belongs to record {} with \
                     payload SHA-256 {}, and this payload has {}; send another key with another payload",
                    held.message_id, held.payload.sha256, own.payload.sha256
                ),
            ));
        }
        if let Some(durability) = held.durability {
            info!(record.id = %held.message_id, stage = "ingest", "repeated a receipt");
            return Ok(Claimed::Stored(Receipt::of_claim(held, durability)));
        }
        // This request's own claim, or that of a request that has not come, or will never come, to store its record. Both
        // store the same record, whoever is first.
        let replayed = held.message_id != own.message_id;
        Ok(Claimed::ToStore { id: held.message_id, store, replayed })
    }

    async fn make_durable(
        &self,
        message: &mut InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
        store: Store,
    ) -> Result<Durability, Problem> {
        let intake = Intake { cache: &self.cache, archive: &self.archive, markers: &self.markers };
        let stored = match store {
            Store::Any => intake.store(message, payload, key).await,
            Store::Archive => intake.archive_directly(message, payload).await,
        };
        let id = message.message_id;
        let durability = stored.map_err(|error| {
            error!(record.id = %id, %error, "no store took the record");
            no_durable_store()
        })?;
        if let (Some(key), Durability::Archived) = (key, durability) {
            let claim = Claim::new(id, &message.payload).stored(durability);
            self.confirm_without_cache(key, &claim, store).await?;
        }
        Ok(durability)
    }

    /// Notes that a key's record is stored, for a request that is sent again while the cache is away, and for one that is
    /// sent when it is back.
    async fn confirm_without_cache(
        &self,
        key: &IdempotencyKey,
        claim: &Claim,
        store: Store,
    ) -> Result<(), Problem> {
        let unconfirmed = |error: &StageError| {
            warn!(record.id = %claim.message_id, error.name = error.name.as_str(), %error, "left a claim unconfirmed");
        };
        match store {
            // The cache has this claim. As long as it is unconfirmed, a repeated request stores the same record again.
            Store::Any => {
                let (noted, cached) =
                    future::join(self.markers.confirm(key, claim), self.cache.confirm(key, claim)).await;
                noted.err().iter().chain(cached.err().iter()).for_each(unconfirmed);
                Ok(())
            }
            // The cache may have another, of an earlier try: without this note, its receipt would be the one to repeat.
            Store::Archive => self.markers.confirm(key, claim).await.map_err(|error| {
                unconfirmed(&error);
                no_durable_store()
            }),
        }
    }

    async fn refuse(&self, event: &[u8], request_id: Option<&str>, problem: Problem) -> ProxyResponse {
        let event = String::from_utf8_lossy(event);
        let rejected = RejectedRequest::new(&event, request_id, &problem, self.clock.now());
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

/// A request that was taken.
enum Taken {
    /// As a new record.
    Stored(Receipt),
    /// As one that was sent before.
    Replayed(Receipt),
}

/// What the claim of a key came to.
enum Claimed {
    /// The key's record is stored; this is its receipt.
    Stored(Receipt),
    /// The record is to be stored under this id.
    ToStore { id: RecordId, store: Store, replayed: bool },
}

/// Which stores to ask.
#[derive(Clone, Copy)]
enum Store {
    /// The cache, then the archive.
    Any,
    /// The archive alone.
    Archive,
}

/// Of two claims that two stores made of one key, because one of them could not be asked: the one whose record is stored;
/// of two that are, the later, because a producer that has a receipt does not try again; and else the one without cache,
/// because it was made first. Of two from the same millisecond, also the one without cache: the cache can be lost
/// between two requests that fast, and not come back as well.
fn the_one_to_repeat(cached: Claim, noted: Claim) -> Claim {
    let cached_later = cached.message_id.received_at() > noted.message_id.received_at();
    match (cached.durability.is_some(), noted.durability.is_some()) {
        (true, true) if cached_later => cached,
        (true, false) => cached,
        (true, true) | (false, _) => noted,
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

fn no_durable_store() -> Problem {
    Problem::new(
        ProblemKind::NoDurableStore,
        "neither the cache nor the archive could take the record; nothing was acknowledged, send it again later",
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, receipt::ReceivedPayload};

    #[test]
    fn the_stored_then_the_later_then_the_noted_claim_is_repeated() {
        let claim = |unix_ms, chance, durability| Claim {
            message_id: RecordId::with_chance(Timestamp::from_unix_ms(unix_ms).unwrap(), &[chance; 10]),
            payload: ReceivedPayload {
                sha256: Sha256::of(b"payload"),
                size_bytes: 7,
                content_type: "text/plain".to_owned(),
            },
            durability,
        };
        let (cached, noted) = (Some(Durability::Replicated), Some(Durability::Archived));
        for (in_cache, in_markers, cached_wins) in [
            (claim(1, 0, cached), claim(2, 0, None), true),
            (claim(2, 0, None), claim(1, 0, noted), false),
            (claim(2, 0, cached), claim(1, 0, noted), true),
            (claim(1, 0, cached), claim(2, 0, noted), false),
            (claim(1, 255, cached), claim(1, 0, noted), false),
            (claim(2, 0, None), claim(1, 0, None), false),
        ] {
            let expected = if cached_wins { in_cache.clone() } else { in_markers.clone() };
            assert_eq!(the_one_to_repeat(in_cache, in_markers), expected);
        }
    }
}
