//! Ports with a time limit.
//!
//! An API Gateway request has 29 seconds, whatever its stores do. Each port of ingest gets its share, so that a store that
//! hangs still leaves the time to ask the next one, and to tell the producer.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use custody_core::{
    content::{Content, Digested},
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, PayloadDescriptor, RedisReference, S3Reference},
    ports::{
        ArchivedObject, IdempotencyClaims, Outcome, PayloadArchive, PayloadCache, PendingMarkers, Salvage,
        Start, Workflow,
    },
    record_id::RecordId,
    rejected_request::RejectedRequest,
    run::Run,
};

/// The shares of one ingest request's time. Together they stay below the function's timeout, 26 s, on the longest way: a
/// cache and an archive that hang, and then the salvage. A request with an idempotency key asks for its claims first, and
/// where the cache hangs at that, it is not asked again.
pub mod ingest_shares {
    use std::time::Duration;

    /// The cache, for a whole record.
    pub const CACHE: Duration = Duration::from_secs(6);
    /// The archive, for a whole record.
    pub const ARCHIVE: Duration = Duration::from_secs(8);
    /// A pending marker.
    pub const MARKER: Duration = Duration::from_secs(3);
    /// The start of the workflow.
    pub const START: Duration = Duration::from_secs(3);
    /// The failure function.
    pub const SALVAGE: Duration = Duration::from_secs(6);
    /// The claim of an idempotency key, in any store.
    pub const CLAIM: Duration = Duration::from_secs(2);

    const TIMEOUT_SECONDS: u64 = 26;
    const STORES_SECONDS: u64 = CLAIM.as_secs() + CACHE.as_secs() + ARCHIVE.as_secs() + MARKER.as_secs();
    const _: () = assert!(STORES_SECONDS + SALVAGE.as_secs() < TIMEOUT_SECONDS);
    const _: () = assert!(STORES_SECONDS + CLAIM.as_secs() + START.as_secs() < TIMEOUT_SECONDS);
}

/// A port whose calls are given up after a time. The effect of a call that was given up may have happened or still
/// happen, as with any lost reply.
#[derive(Debug)]
pub struct Bounded<P> {
    port: P,
    limit: Duration,
}

impl<P> Bounded<P> {
    /// `port`, with at most `limit` for each call.
    pub const fn new(port: P, limit: Duration) -> Self {
        Self { port, limit }
    }

    async fn within<T>(
        &self,
        unavailable: ErrorName,
        call: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, StageError> {
        within(self.limit, unavailable, call).await
    }

    async fn briefly<T>(&self, call: impl Future<Output = Result<T, StageError>>) -> Result<T, StageError> {
        within(self.limit.min(ingest_shares::CLAIM), ErrorName::ClaimsUnavailable, call).await
    }
}

async fn within<T>(
    limit: Duration,
    unavailable: ErrorName,
    call: impl Future<Output = Result<T, StageError>>,
) -> Result<T, StageError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(StageError::new(unavailable, format!("no answer within {} ms", limit.as_millis())))
    })
}

impl<P: PayloadCache> PayloadCache for Bounded<P> {
    fn reference(&self, id: RecordId) -> RedisReference {
        self.port.reference(id)
    }

    async fn put(
        &self,
        message: &InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.put(message, payload, key)).await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Digested>, StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.payload(id)).await
    }

    async fn settle(&self, run: Run) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.settle(run)).await
    }

    async fn extend(&self, records: &[RecordId]) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.extend(records)).await
    }
}

/// Claims are small, so they get no more than a claim's share, whatever else their store may take.
impl<P: IdempotencyClaims> IdempotencyClaims for Bounded<P> {
    async fn claim(&self, key: &IdempotencyKey, claim: &Claim) -> Result<Claim, StageError> {
        self.briefly(self.port.claim(key, claim)).await
    }

    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        self.briefly(self.port.find(key)).await
    }

    async fn confirm(&self, key: &IdempotencyKey, claim: &Claim) -> Result<(), StageError> {
        self.briefly(self.port.confirm(key, claim)).await
    }
}

impl<P: PayloadArchive> PayloadArchive for Bounded<P> {
    async fn store(
        &self,
        key: &str,
        payload: Bytes,
        descriptor: &PayloadDescriptor,
    ) -> Result<S3Reference, StageError> {
        self.within(ErrorName::ArchiveUnavailable, self.port.store(key, payload, descriptor)).await
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        self.within(ErrorName::ArchiveUnavailable, self.port.find(key)).await
    }
}

impl<P: PendingMarkers> PendingMarkers for Bounded<P> {
    async fn mark(&self, message: &InternalMessage) -> Result<(), StageError> {
        self.within(ErrorName::PendingStoreUnavailable, self.port.mark(message)).await
    }

    async fn clear(&self, run: Run) -> Result<(), StageError> {
        self.within(ErrorName::PendingStoreUnavailable, self.port.clear(run)).await
    }
}

impl<P: Workflow> Workflow for Bounded<P> {
    async fn start(&self, message: &InternalMessage) -> Result<Start, StageError> {
        self.within(ErrorName::WorkflowUnavailable, self.port.start(message)).await
    }

    async fn outcome(&self, run: Run) -> Result<Option<Outcome>, StageError> {
        self.within(ErrorName::WorkflowUnavailable, self.port.outcome(run)).await
    }
}

impl<P: Salvage> Salvage for Bounded<P> {
    async fn salvage(&self, request: &RejectedRequest<'_>) -> Result<(), StageError> {
        self.within(ErrorName::FailureFunctionUnavailable, self.port.salvage(request)).await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use custody_test_support::samples;

    use super::*;

    struct Hanging;

    impl Workflow for Hanging {
        async fn start(&self, _: &InternalMessage) -> Result<Start, StageError> {
            pending().await
        }

        async fn outcome(&self, _: Run) -> Result<Option<Outcome>, StageError> {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_hangs_is_unavailable() {
        let workflow = Bounded::new(Hanging, Duration::from_secs(3));
        let error = workflow.start(&samples::message(b"payload")).await.unwrap_err();
        assert_eq!(error.name, ErrorName::WorkflowUnavailable);
        assert_eq!(error.to_string(), "no answer within 3000 ms");
    }
}
