//! Ports with a time limit.
//!
//! An API Gateway request has 29 seconds, whatever its stores do. Each port of ingest gets its share, so that a store that
//! hangs still leaves the time to ask the next one, and to tell the producer.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use custody_core::{
    error::{ErrorName, StageError},
    message::{InternalMessage, PayloadDescriptor, RedisReference, S3Reference},
    ports::{ArchivedObject, PayloadArchive, PayloadCache, PendingMarkers, Salvage, Workflow},
    record_id::RecordId,
    rejected_request::RejectedRequest,
};

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
        tokio::time::timeout(self.limit, call).await.unwrap_or_else(|_| {
            Err(StageError::new(unavailable, format!("no answer within {} ms", self.limit.as_millis())))
        })
    }
}

impl<P: PayloadCache> PayloadCache for Bounded<P> {
    fn reference(&self, id: RecordId) -> RedisReference {
        self.port.reference(id)
    }

    async fn put(&self, message: &InternalMessage, payload: &[u8]) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.put(message, payload)).await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.payload(id)).await
    }

    async fn settle(&self, id: RecordId) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.settle(id)).await
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

    async fn clear(&self, id: RecordId) -> Result<(), StageError> {
        self.within(ErrorName::PendingStoreUnavailable, self.port.clear(id)).await
    }
}

impl<P: Workflow> Workflow for Bounded<P> {
    async fn start(&self, message: &InternalMessage) -> Result<(), StageError> {
        self.within(ErrorName::WorkflowUnavailable, self.port.start(message)).await
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
        async fn start(&self, _: &InternalMessage) -> Result<(), StageError> {
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
