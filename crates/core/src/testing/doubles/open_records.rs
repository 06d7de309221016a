//! The double of the open-record table and the idempotency table. Both are one store, because an acceptance writes both
//! in one transaction.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    attempt::Attempt,
    clock::Timestamp,
    error::{ErrorName, StageError},
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    open_record::{FailureStep, IndexEntry, IndexListing, OpenKind, OpenRecord, OpenState},
    ports::{Acceptance, IdempotencyClaims, OpenRecords, Turn},
    record_id::RecordId,
};

use super::Store;

failing!(MemoryOpenRecords);

/// Open records and claims in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryOpenRecords(Arc<Store<State>>, Arc<Lag>);

/// The index's lag: earlier listings, and the decision whether the next listing is an earlier one.
#[derive(Default)]
struct Lag(Mutex<(BTreeMap<OpenKind, IndexListing>, Option<DecideLag>)>);

type DecideLag = Box<dyn FnMut() -> bool + Send>;

impl fmt::Debug for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lag")
    }
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<RecordId, OpenRecord>,
    claims: BTreeMap<IdempotencyKey, Claim>,
    fails_accepts: bool,
}

impl State {
    /// Returns the open record of an attempt, if it is the current attempt of the record.
    fn current(&mut self, attempt: Attempt) -> Option<&mut OpenRecord> {
        self.open.get_mut(&attempt.record).filter(|open| open.attempt() == attempt)
    }
}

impl MemoryOpenRecords {
    /// Returns all open records.
    pub fn all(&self) -> Vec<OpenRecord> {
        self.0.peek().open.values().cloned().collect()
    }

    /// Returns the open record with this id.
    pub fn get(&self, id: RecordId) -> Option<OpenRecord> {
        self.0.peek().open.get(&id).cloned()
    }

    /// Makes the index lag: a listing for which `lags` returns `true` is the one before it.
    pub fn lag_listings(&self, lags: impl FnMut() -> bool + Send + 'static) {
        self.1.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(Box::new(lags));
    }

    /// Returns all claims.
    pub fn claims(&self) -> BTreeMap<IdempotencyKey, Claim> {
        self.0.peek().claims.clone()
    }

    /// Makes every acceptance fail, or ends that. Other calls are not affected.
    pub fn fail_accepts(&self, fails: bool) {
        self.0.peek().fails_accepts = fails;
    }

    /// Removes the claims that may be removed at `now`, as DynamoDB's time-to-live does.
    pub fn expire_claims(&self, now: Timestamp) {
        self.0.peek().claims.retain(|_, claim| claim.removable_at() > now);
    }
}

impl OpenRecords for MemoryOpenRecords {
    async fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> Result<Acceptance, StageError> {
        let mut state = self.0.open().await?;
        if state.fails_accepts {
            return Err(StageError::new(
                ErrorName::TableUnavailable,
                "accept a record: a test made acceptances fail",
            ));
        }
        if let Some(known) = state.open.get(&record.id()) {
            return same_record(known, record).map(|()| Acceptance::AlreadyAccepted);
        }
        if let Some(request) = claim {
            match state.claims.get(&request.key) {
                Some(held) if held.message_id == record.id() => return Ok(Acceptance::AlreadyAccepted),
                Some(held) if Some(held) != request.replaces.as_ref() => {
                    return Ok(Acceptance::KeyTaken(held.clone()));
                }
                _ => state.claims.insert(request.key, request.claim.clone()),
            };
        }
        state.open.insert(record.id(), record.clone());
        Ok(Acceptance::Accepted)
    }

    async fn find(&self, id: RecordId) -> Result<Option<OpenRecord>, StageError> {
        Ok(self.0.open().await?.open.get(&id).cloned())
    }

    async fn list(&self, kind: OpenKind, limit: usize) -> Result<IndexListing, StageError> {
        let state = self.0.open().await?;
        let open = state.open.values().filter(|open| open.kind() == kind);
        let mut entries: Vec<_> = open
            .map(|open| IndexEntry {
                look_at: open.look_at,
                id: open.id(),
                accepted_later_at: open.message.accepted_later_at,
            })
            .collect();
        entries.sort_unstable();
        let truncated = entries.len() > limit;
        entries.truncate(limit);
        let current = IndexListing { entries, truncated };
        let (listings, lags) = &mut *self.1.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = listings.insert(kind, current.clone()).unwrap_or_default();
        Ok(if lags.as_mut().is_some_and(|lags| lags()) { before } else { current })
    }

    async fn take_turn(&self, seen: &OpenRecord, turn: Turn) -> Result<bool, StageError> {
        let mut state = self.0.open().await?;
        let Some(open) = state.current(seen.attempt()) else { return Ok(false) };
        if open.look_at != seen.look_at || open.kind() != seen.kind() {
            return Ok(false);
        }
        open.look_at = turn.look_at;
        open.looks += 1;
        if !turn.is_missing {
            open.missing_since = None;
        }
        if let Some(now) = turn.start {
            open.starts += 1;
            open.started_at = now;
        }
        Ok(true)
    }

    async fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> Result<Option<Timestamp>, StageError> {
        let mut state = self.0.open().await?;
        Ok(state.current(attempt).map(|open| {
            open.look_at = look_at;
            *open.missing_since.get_or_insert(now)
        }))
    }

    async fn fail(&self, failed: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let mut state = self.0.open().await?;
        Ok(state.current(failed.attempt()).map(|open| {
            if open.state == OpenState::InProgress {
                *open = failed.clone();
            }
            open.clone()
        }))
    }

    async fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> Result<(), StageError> {
        let mut state = self.0.open().await?;
        if let Some(open) = state.current(attempt)
            && let OpenState::Failed { pending_steps: left, .. } = &mut open.state
        {
            *left = pending_steps.to_vec();
            open.look_at = look_at;
        }
        Ok(())
    }

    async fn note_redrive(&self, attempt: Attempt, due: Option<Timestamp>) -> Result<(), StageError> {
        let mut state = self.0.open().await?;
        if let Some(open) = state.current(attempt).filter(|open| open.kind() == OpenKind::Failed) {
            open.redrive_at = due;
        }
        Ok(())
    }

    async fn redrive(&self, next: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let mut state = self.0.open().await?;
        Ok(state.open.get_mut(&next.id()).map(|open| {
            if open.attempt().next() == next.attempt() && open.kind() == OpenKind::Failed {
                *open = next.clone();
            }
            open.clone()
        }))
    }

    async fn close(&self, attempt: Attempt) -> Result<(), StageError> {
        let mut state = self.0.open().await?;
        if state.current(attempt).is_some() {
            state.open.remove(&attempt.record);
        }
        Ok(())
    }
}

/// Checks that the existing open record is the same record, accepted by a call whose reply was lost. Fails if that
/// record has another payload.
fn same_record(known: &OpenRecord, record: &OpenRecord) -> Result<(), StageError> {
    if known.message.payload.sha256 == record.message.payload.sha256 {
        return Ok(());
    }
    let operation = format!("open record {}: it is open with another payload", record.id());
    Err(StageError::new(ErrorName::MetadataConflict, operation))
}

impl IdempotencyClaims for MemoryOpenRecords {
    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        Ok(self.0.open().await?.claims.get(key).cloned())
    }

    async fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> Result<(), StageError> {
        let mut state = self.0.open().await?;
        if let Some(claim) = state.claims.get_mut(key).filter(|claim| claim.message_id == holder) {
            claim.expires_at = claim.expires_at.max(until);
        }
        Ok(())
    }
}
