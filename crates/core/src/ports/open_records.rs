//! The open-record table: the list of accepted records that are not finished.

use std::future::Future;

use crate::{
    attempt::Attempt,
    clock::Timestamp,
    error::StageError,
    idempotency::{Claim, ClaimRequest},
    open_record::{FailureStep, IndexListing, OpenKind, OpenRecord},
    record_id::RecordId,
};

/// The store of open records: accepted records that are not finished.
///
/// Only [`accept`](Self::accept) creates an open record. Every other write requires that the record is open, at the
/// attempt that the caller names.
pub trait OpenRecords: Send + Sync {
    /// Accepts a record: writes its open record unless the record is open already, together with the claim of its
    /// idempotency key if it has one.
    ///
    /// `Ok(Accepted)`: this call has opened the record. `Ok(AlreadyAccepted)`: an earlier call for the same record has accepted it,
    /// perhaps a try of this call whose reply was lost; the record may be closed again. An identical repetition of a call may be
    /// reported as either. `Ok(KeyTaken)`: another record holds the key, and nothing was written. `Err`: the record may or may not be open.
    fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> impl Future<Output = Result<Acceptance, StageError>> + Send;

    /// Returns the open record with a consistent read, or `None` if the record is not open.
    fn find(&self, id: RecordId) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Lists at most `limit` open records of one kind from the index. The index is a hint: its entries may be out of
    /// date.
    fn list(
        &self,
        kind: OpenKind,
        limit: usize,
    ) -> impl Future<Output = Result<IndexListing, StageError>> + Send;

    /// Takes the turn of a record, unless another caller has changed the record since it was read as `seen`. Moves the
    /// next look, counts the look, counts a start if `turn` has one, and updates the note of a missing payload. Returns
    /// whether this call took the turn. `Err`: the turn may or may not be taken.
    fn take_turn(
        &self,
        seen: &OpenRecord,
        turn: Turn,
    ) -> impl Future<Output = Result<bool, StageError>> + Send;

    /// Notes that the payload of an attempt is in no store, and sets the next look to `look_at`. Returns the time of
    /// the first such note, which is `now` if there was none before; `None` if the attempt is no longer open.
    fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> impl Future<Output = Result<Option<Timestamp>, StageError>> + Send;

    /// Changes the state of an attempt to failed, unless it has failed before. Returns the open record that is stored
    /// then: `failed`, or the record with the failure that was stored first; `None` if the attempt is no longer open.
    fn fail(
        &self,
        failed: &OpenRecord,
    ) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Stores which steps of a failed attempt are still pending, and sets the next look to `look_at`. Succeeds without
    /// an effect if the attempt is no longer open.
    fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Notes when the redrive of a failed attempt is due that a person has asked for; `None` removes the note. Succeeds without an effect
    /// if the attempt is not open, or has not failed.
    fn note_redrive(
        &self,
        attempt: Attempt,
        due: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), StageError>> + Send;

    /// Replaces a failed attempt by `next`, the attempt that follows it. Returns the stored open record: `next`, or
    /// what another caller stored first; `None` if the record is not open.
    fn redrive(
        &self,
        next: &OpenRecord,
    ) -> impl Future<Output = Result<Option<OpenRecord>, StageError>> + Send;

    /// Closes a record whose current attempt is `attempt`. Succeeds without an effect if the record is closed already.
    /// A record at a later attempt stays open.
    fn close(&self, attempt: Attempt) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// The result of [`OpenRecords::accept`].
#[derive(Clone, Debug, PartialEq)]
pub enum Acceptance {
    /// This call has opened the record.
    Accepted,
    /// An earlier call has accepted the record, and what that call stored stays unchanged.
    AlreadyAccepted,
    /// Another record holds the idempotency key; this is its claim.
    KeyTaken(Claim),
}

/// The changes that taking a turn makes to an open record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The time of reconcile's next look at the record.
    pub look_at: Timestamp,
    /// The time of a further start, which is counted together with the turn; `None` if the turn counts no start.
    pub start: Option<Timestamp>,
    /// Whether this look found the payload in no store. If `false`, taking the turn clears an earlier note that the
    /// payload was missing: a payload is lost only if it is missing without interruption for longer than a failover
    /// takes.
    pub is_missing: bool,
}

impl Turn {
    /// Makes reconcile look at the record again at `look_at`.
    pub const fn until(look_at: Timestamp) -> Self {
        Self { look_at, start: None, is_missing: false }
    }
}
