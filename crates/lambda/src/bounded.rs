//! Ports with a time limit for each call.
//!
//! An API Gateway request ends after 29 seconds, whatever its stores do. Therefore each port of a function gets a share
//! of that time. If a store hangs, enough time is left to call the next store and to answer. A call that reached its
//! time limit may have had its effect, or may still have it later, as with any lost reply.

use std::{collections::BTreeMap, future::Future, time::Duration};

use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::{DeadLetter, FailureSummary},
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::{InternalMessage, PayloadDescriptor, RedisReference, S3Reference},
    notification::Notification,
    open_record::{FailureStep, IndexListing, OpenKind, OpenRecord},
    payload_source::PayloadSource,
    ports::{
        Acceptance, AcceptanceMarkers, ArchivedObject, CompletionTimes, DeadLetters, Discard, FailedItem,
        FailedStore, FailureHandler, IdempotencyClaims, ItemState, Notifier, OpenRecords, PayloadArchive,
        PayloadCache, RecordTable, Start, StoredMetadata, Turn, Workflow,
    },
    receipt::Durability,
    record_id::RecordId,
};

/// The time limits of the ports during one ingest request. Their sum stays below the function's timeout of 26 s even on
/// the longest path: the cache hangs, the archive hangs, the table hangs, and then the marker is written.
pub mod ingest_shares {
    use std::time::Duration;

    /// The time limit of storing a whole payload in the cache.
    pub const CACHE: Duration = Duration::from_secs(5);
    /// The time limit of storing a whole payload in the archive.
    pub const ARCHIVE: Duration = Duration::from_secs(8);
    /// The time limit of an acceptance, or of the lookup of a claim.
    pub const TABLE: Duration = Duration::from_secs(3);
    /// The time limit of one try of a call to the tables. After two tries, enough of [`TABLE`] is left to read the
    /// claim of the idempotency key.
    pub const TABLE_TRY: Duration = Duration::from_millis(700);
    /// The time limit of storing the marker of an acceptance that could not be written to the table.
    pub const MARKER: Duration = Duration::from_secs(4);
    /// The time limit of one try of writing the marker.
    pub const MARKER_TRY: Duration = Duration::from_millis(1800);
    /// The time limit of each call after the response: the start of the workflow, and the storing of a rejected
    /// request.
    pub const FOLLOW_UP: Duration = Duration::from_secs(3);

    const TIMEOUT_SECONDS: u64 = 26;
    const LONGEST_WAY_SECONDS: u64 =
        CACHE.as_secs() + ARCHIVE.as_secs() + TABLE.as_secs() + MARKER.as_secs() + FOLLOW_UP.as_secs();
    const _: () = assert!(LONGEST_WAY_SECONDS < TIMEOUT_SECONDS);
    const _: () = assert!(TABLE_TRY.as_millis() * 4 < TABLE.as_millis());
    const _: () = assert!(MARKER_TRY.as_millis() * 2 < MARKER.as_millis());
}

/// A port whose calls fail as unavailable after a time limit.
#[derive(Debug)]
pub struct Bounded<P> {
    port: P,
    limit: Duration,
}

impl<P> Bounded<P> {
    /// Wraps `port` with a time limit of `limit` for each call.
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

    fn durability(&self) -> Durability {
        self.port.durability()
    }

    async fn put(&self, id: RecordId, payload: &[u8]) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.put(id, payload)).await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.payload(id)).await
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.source(id)).await
    }

    async fn size(&self, id: RecordId) -> Result<Option<u64>, StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.size(id)).await
    }

    async fn persist(&self, id: RecordId) -> Result<bool, StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.persist(id)).await
    }

    async fn unlink(&self, id: RecordId) -> Result<(), StageError> {
        self.within(ErrorName::CacheUnavailable, self.port.unlink(id)).await
    }
}

impl<P: OpenRecords> OpenRecords for Bounded<P> {
    async fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> Result<Acceptance, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.accept(record, claim)).await
    }

    async fn find(&self, id: RecordId) -> Result<Option<OpenRecord>, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.find(id)).await
    }

    async fn list(&self, kind: OpenKind, limit: usize) -> Result<IndexListing, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.list(kind, limit)).await
    }

    async fn take_turn(&self, seen: &OpenRecord, turn: Turn) -> Result<bool, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.take_turn(seen, turn)).await
    }

    async fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> Result<Option<Timestamp>, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.note_missing(attempt, now, look_at)).await
    }

    async fn fail(&self, failed: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.fail(failed)).await
    }

    async fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> Result<(), StageError> {
        self.within(ErrorName::TableUnavailable, self.port.set_pending_steps(attempt, pending_steps, look_at))
            .await
    }

    async fn redrive(&self, next: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.redrive(next)).await
    }

    async fn close(&self, attempt: Attempt) -> Result<(), StageError> {
        self.within(ErrorName::TableUnavailable, self.port.close(attempt)).await
    }
}

impl<P: IdempotencyClaims> IdempotencyClaims for Bounded<P> {
    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.find(key)).await
    }

    async fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> Result<(), StageError> {
        self.within(ErrorName::TableUnavailable, self.port.renew(key, holder, until)).await
    }
}

impl<P: AcceptanceMarkers> AcceptanceMarkers for Bounded<P> {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        self.within(ErrorName::MarkersUnavailable, self.port.mark(record)).await
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        self.within(ErrorName::MarkersUnavailable, self.port.list(limit)).await
    }

    async fn find(&self, attempt: Attempt) -> Result<Option<OpenRecord>, StageError> {
        self.within(ErrorName::MarkersUnavailable, self.port.find(attempt)).await
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        self.within(ErrorName::MarkersUnavailable, self.port.clear(attempt)).await
    }
}

impl<P: PayloadArchive> PayloadArchive for Bounded<P> {
    async fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        self.within(ErrorName::ArchiveUnavailable, self.port.store(key, payload, descriptor, now)).await
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        self.within(ErrorName::ArchiveUnavailable, self.port.find(key)).await
    }
}

impl<P: FailedStore> FailedStore for Bounded<P> {
    async fn preserve(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        self.within(ErrorName::FailedStoreUnavailable, self.port.preserve(key, content)).await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        self.within(ErrorName::FailedStoreUnavailable, self.port.fetch(key)).await
    }

    async fn source(&self, key: &str) -> Result<Option<PayloadSource>, StageError> {
        self.within(ErrorName::FailedStoreUnavailable, self.port.source(key)).await
    }

    async fn find(&self, key: &str) -> Result<Option<S3Reference>, StageError> {
        self.within(ErrorName::FailedStoreUnavailable, self.port.find(key)).await
    }
}

impl<P: RecordTable> RecordTable for Bounded<P> {
    async fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> Result<StoredMetadata, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.put_received(message, stored_at)).await
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.complete(message, times)).await
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.fail(message, failure)).await
    }

    async fn discard(&self, attempt: Attempt, discard: &Discard) -> Result<bool, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.discard(attempt, discard)).await
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        self.within(ErrorName::TableUnavailable, self.port.states(records)).await
    }
}

impl<P: Workflow> Workflow for Bounded<P> {
    fn recognizes_names(&self) -> bool {
        self.port.recognizes_names()
    }

    async fn start(&self, message: &InternalMessage, start: u32) -> Result<Start, StageError> {
        self.within(ErrorName::WorkflowUnavailable, self.port.start(message, start)).await
    }
}

impl<P: FailureHandler> FailureHandler for Bounded<P> {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        self.within(ErrorName::FailureFunctionUnavailable, self.port.handle(failed)).await
    }
}

impl<P: DeadLetters> DeadLetters for Bounded<P> {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        self.within(ErrorName::QueueUnavailable, self.port.send(letter)).await
    }
}

impl<P: Notifier> Notifier for Bounded<P> {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        self.within(ErrorName::TopicUnavailable, self.port.publish(notification)).await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use custody_core::testing::samples;

    use super::*;

    struct Hanging;

    impl Workflow for Hanging {
        fn recognizes_names(&self) -> bool {
            true
        }

        async fn start(&self, _: &InternalMessage, _: u32) -> Result<Start, StageError> {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_hangs_is_unavailable() {
        let workflow = Bounded::new(Hanging, Duration::from_secs(3));
        let error = workflow.start(&samples::message(b"payload"), 1).await.unwrap_err();
        assert_eq!(error.name, ErrorName::WorkflowUnavailable);
        assert_eq!(error.to_string(), "no answer within 3000 ms");
    }
}
