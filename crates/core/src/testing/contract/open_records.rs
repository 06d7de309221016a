//! The contract suites of open records, claims and acceptance markers.
#![expect(clippy::cognitive_complexity, reason = "a contract is a list of assertions")]

use strum::VariantArray as _;

use super::failure_of;
use crate::{
    clock::Timestamp,
    digest::Sha256,
    error::ErrorName,
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    message::InternalMessage,
    open_record::{FailureStep, OpenKind, OpenRecord, OpenState},
    ports::{Acceptance, AcceptanceMarkers, IdempotencyClaims, OpenRecords, Turn},
    receipt::Durability,
    testing::samples,
};

/// A limit that is larger than the number of records that any suite leaves open.
const ALL: usize = 100_000;

fn later(time: Timestamp, seconds: u64) -> Timestamp {
    time.after(std::time::Duration::from_secs(seconds))
}

/// Builds an open record that is due in 2100. Where the suite runs on a deployment, reconcile would take the turns of one that is due.
fn open_record(message: &InternalMessage) -> OpenRecord {
    let look_at = Timestamp::from_unix_ms(4_102_444_800_000).unwrap();
    OpenRecord { look_at, ..samples::open_record(message) }
}

async fn listed(open: &impl OpenRecords, kind: OpenKind, record: &OpenRecord) -> Option<Timestamp> {
    let listing = open.list(kind, ALL).await.unwrap();
    listing.entries.iter().find(|entry| entry.id == record.id()).map(|entry| entry.look_at)
}

/// Checks the contract of [`OpenRecords`].
pub async fn open_records(open: &impl OpenRecords) {
    acceptance_creates_and_nothing_else_does(open).await;
    turns_are_taken_once(open).await;
    a_failure_is_stored_once_and_redriven_once(open).await;
    a_redrive_is_noted_for_a_failed_attempt_only(open).await;
    a_missing_payload_is_missing_since_the_first_note(open).await;
    closing_requires_the_current_attempt(open).await;
    assert!(open.list(OpenKind::InProgress, 0).await.unwrap().entries.is_empty(), "the limit holds");
}

async fn acceptance_creates_and_nothing_else_does(open: &impl OpenRecords) {
    let record = open_record(&samples::message(b"payload"));
    let (id, attempt) = (record.id(), record.attempt());
    assert_eq!(open.find(id).await.unwrap(), None);
    let turn = Turn { look_at: record.look_at, start: None, is_missing: false };
    assert!(!open.take_turn(&record, turn).await.unwrap());
    assert_eq!(open.note_missing(attempt, record.look_at, record.look_at).await.unwrap(), None);
    assert_eq!(open.fail(&failed(&record)).await.unwrap(), None);
    open.set_pending_steps(attempt, &[FailureStep::Item], record.look_at)
        .await
        .expect("the record is not open");
    open.note_redrive(attempt, Some(record.look_at)).await.expect("the record is not open");
    assert_eq!(open.redrive(&redriven(&record)).await.unwrap(), None);
    open.close(attempt).await.expect("closing must be repeatable");
    assert_eq!(open.find(id).await.unwrap(), None, "only an acceptance may create an open record");

    assert_eq!(open.accept(&record, None).await.unwrap(), Acceptance::Accepted);
    assert_eq!(open.find(id).await.unwrap().as_ref(), Some(&record));
    assert_eq!(listed(open, OpenKind::InProgress, &record).await, Some(record.look_at));
    // The reply to the first acceptance was lost, and reconcile has taken a turn before the acceptance is repeated.
    let turn = Turn { look_at: later(record.look_at, 60), start: None, is_missing: false };
    assert!(open.take_turn(&record, turn).await.unwrap());
    assert_eq!(
        open.accept(&record, None).await.unwrap(),
        Acceptance::AlreadyAccepted,
        "accept may be repeated"
    );
    assert_eq!(open.find(id).await.unwrap().unwrap().looks, 1, "must not change the record");
    let foreign = open_record(&samples::message_of(id, b"other"));
    assert_eq!(open.accept(&foreign, None).await.unwrap_err().name, ErrorName::MetadataConflict);
    open.close(attempt).await.unwrap();
}

async fn turns_are_taken_once(open: &impl OpenRecords) {
    let record = open_record(&samples::message(b"payload"));
    open.accept(&record, None).await.unwrap();
    let look_at = later(record.look_at, 300);
    let turn = Turn { look_at, start: None, is_missing: false };
    assert!(open.take_turn(&record, turn).await.unwrap());
    assert!(!open.take_turn(&record, turn).await.unwrap(), "a turn is taken only once");
    let seen = open.find(record.id()).await.unwrap().unwrap();
    assert_eq!((seen.looks, seen.starts, seen.look_at), (1, record.starts, look_at));
    assert_eq!(seen.started_at, record.started_at);
    let turn = Turn { look_at: later(look_at, 300), start: Some(look_at), is_missing: false };
    assert!(open.take_turn(&seen, turn).await.unwrap());
    let seen = open.find(record.id()).await.unwrap().unwrap();
    assert_eq!((seen.looks, seen.starts, seen.started_at), (2, record.starts + 1, look_at));
    assert_eq!(listed(open, OpenKind::InProgress, &record).await, Some(seen.look_at));
    open.close(record.attempt()).await.unwrap();
}

fn failed(record: &OpenRecord) -> OpenRecord {
    let state = OpenState::Failed {
        failure: failure_of(&record.message),
        pending_steps: FailureStep::VARIANTS.to_vec(),
    };
    OpenRecord { look_at: later(record.look_at, 30), state, ..record.clone() }
}

fn redriven(record: &OpenRecord) -> OpenRecord {
    open_record(&samples::redriven(&record.message))
}

async fn a_failure_is_stored_once_and_redriven_once(open: &impl OpenRecords) {
    let record = open_record(&samples::message(b"payload"));
    let next = redriven(&record);
    open.accept(&record, None).await.unwrap();
    assert_eq!(
        open.redrive(&next).await.unwrap().as_ref(),
        Some(&record),
        "an attempt in progress must not be redriven"
    );

    let first = failed(&record);
    assert_eq!(open.fail(&first).await.unwrap().as_ref(), Some(&first));
    assert_eq!(open.find(record.id()).await.unwrap().as_ref(), Some(&first));
    assert_eq!(listed(open, OpenKind::InProgress, &record).await, None);
    assert_eq!(listed(open, OpenKind::Failed, &record).await, Some(first.look_at));
    let mut second = first.clone();
    if let OpenState::Failed { failure, .. } = &mut second.state {
        "another reason".clone_into(&mut failure.reason);
    }
    assert_eq!(
        open.fail(&second).await.unwrap().as_ref(),
        Some(&first),
        "the first stored failure must remain"
    );

    let look_at = later(first.look_at, 60);
    open.set_pending_steps(record.attempt(), &[FailureStep::DeadLetter], look_at).await.unwrap();
    let with_pending_steps = open.find(record.id()).await.unwrap().unwrap();
    assert!(
        matches!(&with_pending_steps.state, OpenState::Failed { pending_steps, .. } if *pending_steps == [FailureStep::DeadLetter])
    );
    assert_eq!(with_pending_steps.look_at, look_at);
    open.set_pending_steps(record.attempt(), &[], look_at).await.unwrap();
    let with_pending_steps = open.find(record.id()).await.unwrap().unwrap();
    assert!(
        matches!(&with_pending_steps.state, OpenState::Failed { pending_steps, .. } if pending_steps.is_empty())
    );

    assert_eq!(open.redrive(&next).await.unwrap().as_ref(), Some(&next));
    assert_eq!(open.redrive(&next).await.unwrap().as_ref(), Some(&next), "redriving may be repeated");
    assert_eq!(listed(open, OpenKind::InProgress, &record).await, Some(next.look_at));
    assert_eq!(listed(open, OpenKind::Failed, &record).await, None);
    assert_eq!(open.fail(&first).await.unwrap(), None, "an attempt that was redriven must not fail later");
    open.set_pending_steps(record.attempt(), &[FailureStep::Item], look_at).await.unwrap();
    assert_eq!(open.find(record.id()).await.unwrap(), Some(next.clone()));
    open.close(next.attempt()).await.unwrap();
}

async fn a_redrive_is_noted_for_a_failed_attempt_only(open: &impl OpenRecords) {
    let record = open_record(&samples::message(b"payload"));
    let (attempt, due) = (record.attempt(), Some(later(record.look_at, 240)));
    open.accept(&record, None).await.unwrap();
    open.note_redrive(attempt, due).await.unwrap();
    assert_eq!(open.find(record.id()).await.unwrap().unwrap().redrive_at, None, "it is in progress");
    open.fail(&failed(&record)).await.unwrap();
    open.note_redrive(attempt, due).await.unwrap();
    let noted = open.find(record.id()).await.unwrap().unwrap();
    assert_eq!(noted, OpenRecord { redrive_at: due, ..failed(&record) }, "nothing else changes");
    open.note_redrive(attempt, None).await.unwrap();
    assert_eq!(open.find(record.id()).await.unwrap().unwrap().redrive_at, None);
    open.note_redrive(attempt, due).await.unwrap();
    let next = redriven(&record);
    open.redrive(&next).await.unwrap();
    open.note_redrive(attempt, due).await.unwrap();
    assert_eq!(open.find(record.id()).await.unwrap().as_ref(), Some(&next), "the next attempt has no note");
    open.close(next.attempt()).await.unwrap();
}

async fn a_missing_payload_is_missing_since_the_first_note(open: &impl OpenRecords) {
    let record = open_record(&samples::message(b"payload"));
    open.accept(&record, None).await.unwrap();
    let (first, second) = (later(record.look_at, 1), later(record.look_at, 90));
    let attempt = record.attempt();
    assert_eq!(open.note_missing(attempt, first, second).await.unwrap(), Some(first));
    assert_eq!(listed(open, OpenKind::InProgress, &record).await, Some(second));
    assert_eq!(open.note_missing(attempt, second, later(second, 90)).await.unwrap(), Some(first));
    assert_eq!(open.find(record.id()).await.unwrap().unwrap().missing_since, Some(first));
    for (is_missing, expected) in [(true, first), (false, later(second, 200))] {
        let seen = open.find(record.id()).await.unwrap().unwrap();
        let look_at = later(seen.look_at, 90);
        assert!(open.take_turn(&seen, Turn { look_at, start: None, is_missing }).await.unwrap());
        let noted = open.note_missing(attempt, later(second, 200), later(look_at, 90)).await.unwrap();
        assert_eq!(noted, Some(expected), "a turn that has found the payload must clear the time");
    }
    open.close(attempt).await.unwrap();
}

async fn closing_requires_the_current_attempt(open: &impl OpenRecords) {
    let record = open_record(&samples::message(b"payload"));
    let next = redriven(&record);
    open.accept(&record, None).await.unwrap();
    open.fail(&failed(&record)).await.unwrap();
    open.redrive(&next).await.unwrap();
    open.close(record.attempt()).await.expect("closing an earlier attempt must succeed");
    assert!(open.find(record.id()).await.unwrap().is_some(), "the later attempt must stay open");
    open.close(next.attempt()).await.unwrap();
    open.close(next.attempt()).await.expect("closing may be repeated");
    assert_eq!(open.find(record.id()).await.unwrap(), None);
    assert_eq!(listed(open, OpenKind::InProgress, &record).await, None);
}

/// Checks the contract of [`IdempotencyClaims`], and of the acceptances that create claims.
pub async fn idempotency_claims<S: OpenRecords>(open: &S, claims: &impl IdempotencyClaims) {
    let keyed = |payload: &[u8]| {
        let record = open_record(&samples::message(payload));
        let claim = Claim::new(&record.message, Durability::Replicated, record.started_at);
        (record, claim)
    };
    let (first, claim) = keyed(b"payload");
    let (second, other) = keyed(b"payload");
    let key = IdempotencyKey::of_header("contract", &first.id().to_string()).unwrap();
    let request = ClaimRequest { key, claim: claim.clone(), replaces: None };
    let late = ClaimRequest { key, claim: other.clone(), replaces: None };
    assert_eq!(claims.find(&key).await.unwrap(), None);
    assert_eq!(open.accept(&first, Some(&request)).await.unwrap(), Acceptance::Accepted);
    assert_eq!(claims.find(&key).await.unwrap(), Some(claim.clone()));
    let repeated = open.accept(&first, Some(&request)).await.unwrap();
    assert!(
        matches!(repeated, Acceptance::Accepted | Acceptance::AlreadyAccepted),
        "a lost reply is no refusal"
    );
    let mut described_later = first.clone();
    described_later.started_at = later(first.started_at, 60);
    assert_eq!(open.accept(&described_later, Some(&request)).await.unwrap(), Acceptance::AlreadyAccepted);
    assert_eq!(open.find(first.id()).await.unwrap().as_ref(), Some(&first), "the first description stays");
    assert_eq!(open.accept(&second, Some(&late)).await.unwrap(), Acceptance::KeyTaken(claim.clone()));
    assert_eq!(open.find(second.id()).await.unwrap(), None, "the key is held by another record");

    // The claim can still be renewed after its record was closed.
    open.close(first.attempt()).await.unwrap();
    let until = later(claim.expires_at, 3600);
    claims.renew(&key, first.id(), until).await.unwrap();
    let renewed = Claim { expires_at: until, ..claim.clone() };
    assert_eq!(claims.find(&key).await.unwrap(), Some(renewed.clone()));
    claims.renew(&key, first.id(), claim.expires_at).await.unwrap();
    claims.renew(&key, second.id(), later(until, 3600)).await.unwrap();
    assert_eq!(
        claims.find(&key).await.unwrap(),
        Some(renewed.clone()),
        "only the holder may renew a claim, and only to a later time"
    );

    // An expired claim can be replaced only by a request that names exactly this claim, not an older version of it.
    let stale = ClaimRequest { replaces: Some(claim), ..late.clone() };
    assert_eq!(open.accept(&second, Some(&stale)).await.unwrap(), Acceptance::KeyTaken(renewed.clone()));
    let takeover = ClaimRequest { replaces: Some(renewed), ..late };
    assert_eq!(open.accept(&second, Some(&takeover)).await.unwrap(), Acceptance::Accepted);
    assert_eq!(claims.find(&key).await.unwrap(), Some(other));
    open.close(second.attempt()).await.unwrap();

    // Renewing a key without a claim must not create a claim.
    let unknown =
        IdempotencyKey::of_header("contract", &Sha256::of(key.to_string().as_bytes()).to_string()).unwrap();
    claims.renew(&unknown, first.id(), until).await.unwrap();
    assert_eq!(claims.find(&unknown).await.unwrap(), None);
}

/// Checks concurrent acceptances with one key: one is accepted, and all others return the claim of that record.
pub async fn concurrent_claims<S: OpenRecords>(open: &S) {
    let records: Vec<_> = (0..8).map(|_| open_record(&samples::message(b"payload"))).collect();
    let key = IdempotencyKey::of_header("contract", &records[0].id().to_string()).unwrap();
    let accepts = records.iter().map(|record| async move {
        let claim = Claim::new(&record.message, Durability::Replicated, record.started_at);
        open.accept(record, Some(&ClaimRequest { key, claim, replaces: None })).await.unwrap()
    });
    let outcomes = futures_util::future::join_all(accepts).await;
    let winners: Vec<_> = records
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| **outcome == Acceptance::Accepted)
        .map(|(record, _)| record.id())
        .collect();
    assert_eq!(winners.len(), 1, "one key, one record");
    for outcome in &outcomes {
        if let Acceptance::KeyTaken(claim) = outcome {
            assert_eq!(claim.message_id, winners[0]);
        }
    }
    for record in &records {
        assert_eq!(open.find(record.id()).await.unwrap().is_some(), record.id() == winners[0]);
        open.close(record.attempt()).await.unwrap();
    }
}

/// Checks the contract of [`AcceptanceMarkers`].
pub async fn acceptance_markers(markers: &impl AcceptanceMarkers) {
    // It is due: if reconcile adopts it where the suite runs on a deployment, the record comes to an end.
    let record = samples::open_record(&samples::message(b"payload"));
    let attempt = record.attempt();
    markers.clear(attempt).await.expect("clearing an absent marker must succeed");
    assert_eq!(markers.find(attempt).await.unwrap(), None);
    markers.mark(&record).await.unwrap();
    markers.mark(&record).await.expect("marking may be repeated");
    assert!(markers.list(ALL).await.unwrap().contains(&attempt));
    assert_eq!(markers.find(attempt).await.unwrap().as_ref(), Some(&record));
    assert!(markers.list(0).await.unwrap().is_empty(), "the limit holds");
    markers.clear(attempt).await.unwrap();
    markers.clear(attempt).await.expect("clearing may be repeated");
    assert!(!markers.list(ALL).await.unwrap().contains(&attempt));
}
