//! The stores of the state of records, intercepted: open records, claims, acceptance markers and the record table.

use std::collections::BTreeMap;

use super::{Intercepted, Interceptor};
use crate::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::StageError,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::InternalMessage,
    open_record::{FailureStep, IndexListing, OpenKind, OpenRecord},
    ports::{
        Acceptance, AcceptanceMarkers, CompletionTimes, Discard, FailedItem, IdempotencyClaims, ItemState,
        OpenRecords,
        PortName::{
            AcceptanceMarkers as Markers, IdempotencyClaims as Claims, OpenRecords as Open,
            RecordTable as Table,
        },
        RecordQueries, RecordTable, StoredMetadata, Turn,
    },
    record_id::RecordId,
    record_query::{PageRequest, RecordItem, RecordPage},
};

impl<P: OpenRecords + Clone + 'static, I: Interceptor> OpenRecords for Intercepted<P, I> {
    async fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> Result<Acceptance, StageError> {
        let (id, record, claim) = (record.id(), record.clone(), claim.cloned());
        let accept = |port: P| async move { port.accept(&record, claim.as_ref()).await };
        self.call(Open, "accept", id, accept).await
    }

    async fn find(&self, id: RecordId) -> Result<Option<OpenRecord>, StageError> {
        self.call(Open, "find", id, |port| async move { port.find(id).await }).await
    }

    async fn list(&self, kind: OpenKind, limit: usize) -> Result<IndexListing, StageError> {
        self.call(Open, "list", None, |port| async move { port.list(kind, limit).await }).await
    }

    async fn take_turn(&self, seen: &OpenRecord, turn: Turn) -> Result<bool, StageError> {
        let (id, seen) = (seen.id(), seen.clone());
        self.call(Open, "take turn", id, |port| async move { port.take_turn(&seen, turn).await }).await
    }

    async fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> Result<Option<Timestamp>, StageError> {
        let note = |port: P| async move { port.note_missing(attempt, now, look_at).await };
        self.call(Open, "note missing", attempt.record, note).await
    }

    async fn fail(&self, failed: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let (id, failed) = (failed.id(), failed.clone());
        self.call(Open, "fail", id, |port| async move { port.fail(&failed).await }).await
    }

    async fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> Result<(), StageError> {
        let steps = pending_steps.to_vec();
        let set = |port: P| async move { port.set_pending_steps(attempt, &steps, look_at).await };
        self.call(Open, "set pending steps", attempt.record, set).await
    }

    async fn note_redrive(&self, attempt: Attempt, due: Option<Timestamp>) -> Result<(), StageError> {
        let note = |port: P| async move { port.note_redrive(attempt, due).await };
        self.call(Open, "note redrive", attempt.record, note).await
    }

    async fn redrive(&self, next: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let (id, next) = (next.id(), next.clone());
        self.call(Open, "redrive", id, |port| async move { port.redrive(&next).await }).await
    }

    async fn close(&self, attempt: Attempt) -> Result<(), StageError> {
        self.call(Open, "close", attempt.record, |port| async move { port.close(attempt).await }).await
    }
}

impl<P: IdempotencyClaims + Clone + 'static, I: Interceptor> IdempotencyClaims for Intercepted<P, I> {
    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        let key = *key;
        self.call(Claims, "find", None, |port| async move { port.find(&key).await }).await
    }

    async fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> Result<(), StageError> {
        let key = *key;
        self.call(Claims, "renew", holder, |port| async move { port.renew(&key, holder, until).await }).await
    }
}

impl<P: AcceptanceMarkers + Clone + 'static, I: Interceptor> AcceptanceMarkers for Intercepted<P, I> {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        let (id, record) = (record.id(), record.clone());
        self.call(Markers, "mark", id, |port| async move { port.mark(&record).await }).await
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        self.call(Markers, "list", None, |port| async move { port.list(limit).await }).await
    }

    async fn find(&self, attempt: Attempt) -> Result<Option<OpenRecord>, StageError> {
        self.call(Markers, "find", attempt.record, |port| async move { port.find(attempt).await }).await
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        self.call(Markers, "clear", attempt.record, |port| async move { port.clear(attempt).await }).await
    }
}

impl<P: RecordQueries + Clone + 'static, I: Interceptor> RecordQueries for Intercepted<P, I> {
    async fn item(&self, id: RecordId) -> Result<Option<RecordItem>, StageError> {
        self.call(Table, "item", id, |port| async move { port.item(id).await }).await
    }

    async fn page(&self, request: &PageRequest) -> Result<RecordPage, StageError> {
        let request = request.clone();
        self.call(Table, "page", None, |port| async move { port.page(&request).await }).await
    }
}

impl<P: RecordTable + Clone + 'static, I: Interceptor> RecordTable for Intercepted<P, I> {
    async fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> Result<StoredMetadata, StageError> {
        let (id, message) = (message.message_id, message.clone());
        let put = |port: P| async move { port.put_received(&message, stored_at).await };
        self.call(Table, "put received", id, put).await
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        let (id, message) = (message.message_id, message.clone());
        self.call(Table, "complete", id, |port| async move { port.complete(&message, times).await }).await
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        let (id, message, failure) = (message.message_id, message.clone(), failure.clone());
        self.call(Table, "fail", id, |port| async move { port.fail(&message, &failure).await }).await
    }

    async fn discard(&self, attempt: Attempt, discard: &Discard) -> Result<bool, StageError> {
        let discard = discard.clone();
        let call = |port: P| async move { port.discard(attempt, &discard).await };
        self.call(Table, "discard", attempt.record, call).await
    }

    async fn note_rebuilt(&self, id: RecordId, at: Timestamp) -> Result<(), StageError> {
        self.call(Table, "note rebuilt", id, |port| async move { port.note_rebuilt(id, at).await }).await
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        let records = records.to_vec();
        self.call(Table, "states", None, |port| async move { port.states(&records).await }).await
    }
}
