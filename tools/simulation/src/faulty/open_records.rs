//! The ports of the open-record table and the idempotency table, with faults.

use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    error::StageError,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    open_record::{FailureStep, IndexListing, OpenKind, OpenRecord},
    ports::{Acceptance, IdempotencyClaims, OpenRecords, Turn},
    record_id::RecordId,
};

use super::Faulty;
use crate::{chance::Chance as _, faults::Service, watch};

impl OpenRecords for Faulty {
    async fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> Result<Acceptance, StageError> {
        let (record, claim) = (record.clone(), claim.cloned());
        let caller = watch::Caller::of(&self.process);
        self.effect(Service::OpenTable, "accept", move |world| async move {
            let before = world.stores.open_records.get(record.id());
            let accepted = world.stores.open_records.accept(&record, claim.as_ref()).await?;
            if accepted == Acceptance::Accepted {
                watch::check_acceptance(&world, caller, before.as_ref(), &record, claim.as_ref());
            }
            Ok(accepted)
        })
        .await
    }

    async fn find(&self, id: RecordId) -> Result<Option<OpenRecord>, StageError> {
        self.effect(Service::OpenTable, "find", move |world| async move {
            OpenRecords::find(&world.stores.open_records, id).await
        })
        .await
    }

    async fn list(&self, kind: OpenKind, limit: usize) -> Result<IndexListing, StageError> {
        self.effect(Service::OpenTable, "list", move |world| async move {
            let current = world.stores.open_records.list(kind, limit).await?;
            let lags = world.chance().percent(world.setup.lagging_listings);
            let mut ledger = world.ledger();
            let before = ledger.listings.insert(kind, current.clone()).unwrap_or_default();
            if lags && before != current {
                ledger.situation("the index was late");
                return Ok(before);
            }
            Ok(current)
        })
        .await
    }

    async fn take_turn(&self, seen: &OpenRecord, turn: Turn) -> Result<bool, StageError> {
        let seen = seen.clone();
        self.effect(Service::OpenTable, "take turn", move |world| async move {
            let is_taken = world.stores.open_records.take_turn(&seen, turn).await?;
            if !is_taken {
                world.ledger().situation("somebody else had the turn");
            }
            Ok(is_taken)
        })
        .await
    }

    async fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> Result<Option<Timestamp>, StageError> {
        self.effect(Service::OpenTable, "note missing", move |world| async move {
            let since = world.stores.open_records.note_missing(attempt, now, look_at).await?;
            if since.is_some() {
                watch::check_missing(&world, attempt.record);
            }
            Ok(since)
        })
        .await
    }

    async fn fail(&self, failed: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let failed = failed.clone();
        self.effect(Service::OpenTable, "fail", move |world| async move {
            let before = world.stores.open_records.get(failed.id());
            let stored = OpenRecords::fail(&world.stores.open_records, &failed).await?;
            watch::check_failure(&world, before.as_ref(), stored.as_ref());
            Ok(stored)
        })
        .await
    }

    async fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> Result<(), StageError> {
        let pending_steps = pending_steps.to_vec();
        self.effect(Service::OpenTable, "owe", move |world| async move {
            world.stores.open_records.set_pending_steps(attempt, &pending_steps, look_at).await
        })
        .await
    }

    async fn redrive(&self, next: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let next = next.clone();
        let caller = watch::Caller::of(&self.process);
        self.effect(Service::OpenTable, "redrive", move |world| async move {
            let before = world.stores.open_records.get(next.id());
            let stored = world.stores.open_records.redrive(&next).await?;
            watch::check_redrive(&world, caller, before.as_ref(), stored.as_ref());
            Ok(stored)
        })
        .await
    }

    async fn close(&self, attempt: Attempt) -> Result<(), StageError> {
        self.effect(Service::OpenTable, "close", move |world| async move {
            let before = world.stores.open_records.get(attempt.record);
            world.stores.open_records.close(attempt).await?;
            watch::check_close(&world, before.as_ref());
            Ok(())
        })
        .await
    }
}

impl IdempotencyClaims for Faulty {
    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        let key = *key;
        self.effect(Service::ClaimTable, "find claim", move |world| async move {
            IdempotencyClaims::find(&world.stores.open_records, &key).await
        })
        .await
    }

    async fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> Result<(), StageError> {
        let key = *key;
        self.effect(Service::ClaimTable, "renew claim", move |world| async move {
            world.stores.open_records.renew(&key, holder, until).await
        })
        .await
    }
}
