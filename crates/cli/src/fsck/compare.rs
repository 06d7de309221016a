//! The comparisons of `fsck`, without any call: the callers read the stores.

use std::time::Duration;

use custody_aws::{AuditedItem, ListedObject};
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    idempotency::CLAIM_LIFETIME,
    message::PayloadDescriptor,
    open_record::{OpenRecord, OpenState},
    ports::ItemState,
    record_id::RecordId,
};

use super::findings::{Finding, Kind};
use crate::{failed::step_names, output::format_duration};

/// Minimum age of an archived object without an accepted record to be reported. A replay, a conflict or an acceptance
/// without an answer leaves such an object in the archive. Its producer repeats the request within the life of a claim,
/// or not at all.
const LEFTOVER_AGE: Duration = CLAIM_LIFETIME;

/// Limit of the time for which a record may wait: longer than `stuck_after` at the time `now` is too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct StuckThreshold {
    pub(super) now: Timestamp,
    pub(super) stuck_after: Duration,
}

impl StuckThreshold {
    pub(super) fn is_exceeded_since(self, since: Timestamp) -> bool {
        self.now.since(since) > self.stuck_after
    }

    fn age(self, since: Timestamp) -> String {
        format_duration(self.now.since(since))
    }
}

/// Result of comparing an open record with its item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OpenRecordCheck {
    /// The record has not waited for too long.
    InTime,
    /// The record has failed, and only a decision is pending: a person's, or an automatic redrive. The comparison ignores
    /// whether its dead letter is on the queue, because dead letters expire, and are hidden while another reader has
    /// them.
    WaitsForDecision,
    /// The record is stuck.
    Stuck(Finding),
}

/// Compares an open record with its item.
pub(super) fn open_record(
    open: &OpenRecord,
    item: Option<&AuditedItem>,
    patience: StuckThreshold,
) -> OpenRecordCheck {
    let (id, attempt) = (open.id(), open.attempt().number());
    // Why and since when reconcile should have closed the record. A discard without a time counts from the record's
    // receipt.
    let settled = item.and_then(|item| match &item.state {
        ItemState::Completed(completed) => Some(("COMPLETED", completed.times.completed_at)),
        ItemState::Failed { attempt: of, discarded: Some(_) } if *of >= attempt => {
            Some(("discarded", item.discarded_at.unwrap_or(id.received_at())))
        }
        ItemState::Failed { .. } | ItemState::Received => None,
    });
    let stuck = |kind, since, detail: String| {
        if patience.is_exceeded_since(since) {
            OpenRecordCheck::Stuck(Finding::new(kind, id, detail))
        } else {
            OpenRecordCheck::InTime
        }
    };
    match (settled, &open.state) {
        (Some((what, since)), _) => {
            let detail = format!("{what} for {}, and still open", patience.age(since));
            stuck(Kind::NotClosed, since, detail)
        }
        (None, OpenState::Failed { pending_steps, .. }) if pending_steps.is_empty() => {
            OpenRecordCheck::WaitsForDecision
        }
        (None, OpenState::Failed { pending_steps, failure }) => {
            let (since, pending_steps) = (failure.failed_at, step_names(pending_steps));
            let detail = format!(
                "attempt {attempt} failed {} ago, and these steps are pending: {pending_steps}",
                patience.age(since)
            );
            stuck(Kind::FailureUnfinished, since, detail)
        }
        (None, OpenState::InProgress) => {
            let since = open.message.begun_at();
            let missing = open.missing_since.map(|since| format!("; payload missing since {since}"));
            let detail = format!(
                "attempt {attempt} in progress for {}, {} starts, {} looks{}",
                patience.age(since),
                open.starts,
                open.looks,
                missing.unwrap_or_default()
            );
            stuck(Kind::Overdue, since, detail)
        }
    }
}

/// Whether an acceptance marker has waited for its adoption for too long.
pub(super) fn marker(marker: Attempt, patience: StuckThreshold) -> Option<Finding> {
    let since = marker.record.received_at();
    let detail = format!("accepted {} ago, and not adopted: see reconcile's log", patience.age(since));
    patience.is_exceeded_since(since).then(|| Finding::new(Kind::MarkerNotAdopted, marker.record, detail))
}

/// What the other stores have of an archived object's record.
#[derive(Debug)]
pub(super) enum Known<'a> {
    Item(&'a AuditedItem),
    /// An open record, or an acceptance marker.
    Accepted(&'a PayloadDescriptor),
    Nothing,
}

/// Result of comparing an archived object with its record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ObjectCheck {
    /// The object is the payload of an accepted record.
    Accepted,
    /// The object has no accepted record, and is younger than [`LEFTOVER_AGE`].
    Leftover,
    /// The object has another size than its record, or is an old object without an accepted record.
    Wrong(Finding),
}

/// Compares an archived object with its record, without the digest: [`payload`] compares the digest when the item is
/// checked.
pub(super) fn object(listed: &ListedObject, id: RecordId, known: &Known<'_>, now: Timestamp) -> ObjectCheck {
    let promised = match known {
        Known::Item(item) => item.size_bytes,
        Known::Accepted(payload) => payload.size_bytes,
        Known::Nothing if now.since(id.received_at()) < LEFTOVER_AGE => return ObjectCheck::Leftover,
        Known::Nothing => {
            let detail = "archived, without item, open record or marker: never accepted, or the item is gone";
            return ObjectCheck::Wrong(Finding::new(Kind::ObjectWithoutItem, id, detail));
        }
    };
    if promised == listed.size_bytes {
        return ObjectCheck::Accepted;
    }
    let detail = format!("the record has {promised} bytes, the archived object {}", listed.size_bytes);
    ObjectCheck::Wrong(Finding::new(Kind::SizeMismatch, id, detail))
}

/// Returns the record to which the object with this key belongs; a finding if there is none.
pub(super) fn record_of(key: &str) -> Result<RecordId, Finding> {
    let id: Option<RecordId> = key.rsplit('/').next().and_then(|name| name.parse().ok());
    id.filter(|id| id.archive_key() == key).ok_or_else(|| {
        Finding::new(Kind::ForeignObject, key, "the key of the archived object is of no record")
    })
}

/// What an item reports of its record, which the audit checks in the other stores.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExpectedPlace {
    /// The payload is archived.
    Archived,
    /// The record is open, and its payload is secure if the failure reports that.
    Open,
    /// Nothing to check: the record is too young, or was discarded.
    Nothing,
}

/// Returns what must be checked for an item.
pub(super) fn expected_place(item: &AuditedItem, patience: StuckThreshold) -> ExpectedPlace {
    match item.state {
        ItemState::Completed(_) => ExpectedPlace::Archived,
        ItemState::Failed { discarded: Some(_), .. } => ExpectedPlace::Nothing,
        ItemState::Failed { .. }
            if patience.is_exceeded_since(item.failed_at.unwrap_or(item.id.received_at())) =>
        {
            ExpectedPlace::Open
        }
        ItemState::Received if patience.is_exceeded_since(item.id.received_at()) => ExpectedPlace::Open,
        ItemState::Failed { .. } | ItemState::Received => ExpectedPlace::Nothing,
    }
}

/// Compares an item with the object of its payload, in the archive or in the failed bucket. `absent` is the kind of the
/// finding if there is no object.
pub(super) fn payload(item: &AuditedItem, stored: Option<(Sha256, u64)>, absent: Kind) -> Option<Finding> {
    let Some((sha256, size_bytes)) = stored else {
        let detail = match absent {
            Kind::PayloadGone => "FAILED, and its payload is in neither archive nor failed bucket",
            _ => "COMPLETED, and the archive does not have its payload",
        };
        return Some(Finding::new(absent, item.id, detail));
    };
    if sha256 != item.sha256 {
        let detail = format!("the record has {}, the stored object {sha256}", item.sha256);
        return Some(Finding::new(Kind::DigestMismatch, item.id, detail));
    }
    let detail = || format!("the record has {} bytes, the stored object {size_bytes}", item.size_bytes);
    (size_bytes != item.size_bytes).then(|| Finding::new(Kind::SizeMismatch, item.id, detail()))
}

/// Returns the finding for an item whose record should be open, and has neither an open record nor a marker. `latest`
/// is the item, read again after these.
pub(super) fn not_open(latest: &AuditedItem, patience: StuckThreshold) -> Option<Finding> {
    if expected_place(latest, patience) != ExpectedPlace::Open {
        return None;
    }
    let (kind, detail) = match latest.state {
        ItemState::Received => (Kind::StuckRecord, "RECEIVED, and not open: nothing continues the record"),
        _ => (Kind::FailedNotOpen, "FAILED, and neither open nor discarded: nobody is asked to decide"),
    };
    Some(Finding::new(kind, latest.id, detail))
}

#[cfg(test)]
mod tests {
    use custody_core::{
        open_record::FailureStep,
        ports::{CompletedItem, CompletionTimes, Discard, NotedDiscard},
        testing::{contract, samples},
    };

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// An open record, its item, and the time at which it is `minutes` old.
    fn record(minutes: u32) -> (OpenRecord, AuditedItem, StuckThreshold) {
        let open = samples::open_record(&samples::message(b"payload"));
        let item = AuditedItem {
            id: open.id(),
            sha256: open.message.payload.sha256,
            size_bytes: open.message.payload.size_bytes,
            state: ItemState::Received,
            failed_at: None,
            discarded_at: None,
            is_secure: false,
        };
        let now = open.message.received_at.after(MINUTE * minutes);
        (open, item, StuckThreshold { now, stuck_after: MINUTE * 10 })
    }

    fn completed(at: Timestamp) -> ItemState {
        ItemState::Completed(CompletedItem {
            s3_reference: None,
            metadata_reference: None,
            stored_at: at,
            times: CompletionTimes { archived_at: at, completed_at: at },
        })
    }

    fn kind(progress: OpenRecordCheck) -> Option<Kind> {
        match progress {
            OpenRecordCheck::Stuck(finding) => Some(finding.kind),
            OpenRecordCheck::InTime | OpenRecordCheck::WaitsForDecision => None,
        }
    }

    #[test]
    fn a_record_in_progress_is_overdue_by_the_age_of_its_attempt() {
        for (minutes, expected) in [(10, None), (11, Some(Kind::Overdue))] {
            let (open, item, patience) = record(minutes);
            assert_eq!(kind(open_record(&open, None, patience)), expected, "{minutes}");
            assert_eq!(kind(open_record(&open, Some(&item), patience)), expected, "{minutes}");
        }
        let (mut open, _, patience) = record(15);
        // Redriven ten minutes after it was accepted.
        open.message = samples::redriven(&open.message);
        assert_eq!(open_record(&open, None, patience), OpenRecordCheck::InTime);
    }

    #[test]
    fn a_record_that_is_settled_is_closed_in_time() {
        let (open, mut item, patience) = record(30);
        let received_at = open.message.received_at;
        for (minutes, expected) in [(25, None), (5, Some(Kind::NotClosed))] {
            let at = received_at.after(MINUTE * minutes);
            item.state = completed(at);
            assert_eq!(kind(open_record(&open, Some(&item), patience)), expected, "{minutes}");
            item.state = discarded(at);
            item.discarded_at = Some(at);
            assert_eq!(kind(open_record(&open, Some(&item), patience)), expected, "{minutes}");
        }
        let mut next = open;
        next.message = samples::redriven(&next.message);
        // The discard applies to the attempt before. The current attempt was forced, and waits for a decision of its
        // own.
        let failure = contract::failure_of(&next.message);
        next.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        assert_eq!(open_record(&next, Some(&item), patience), OpenRecordCheck::WaitsForDecision);
    }

    #[test]
    fn a_failed_record_may_wait_for_a_decision_for_ever_but_not_for_what_is_owed() {
        let (mut open, _, _) = record(0);
        let failure = contract::failure_of(&open.message);
        let patience = |minutes| StuckThreshold {
            now: failure.failed_at.after(MINUTE * minutes),
            stuck_after: MINUTE * 10,
        };
        open.state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
        assert_eq!(open_record(&open, None, patience(60 * 24 * 15)), OpenRecordCheck::WaitsForDecision);
        open.state =
            OpenState::Failed { failure: failure.clone(), pending_steps: vec![FailureStep::DeadLetter] };
        assert_eq!(open_record(&open, None, patience(10)), OpenRecordCheck::InTime);
        assert_eq!(kind(open_record(&open, None, patience(11))), Some(Kind::FailureUnfinished));
    }

    #[test]
    fn a_marker_is_adopted_in_time() {
        for (minutes, expected) in [(10, false), (11, true)] {
            let (open, _, patience) = record(minutes);
            assert_eq!(marker(open.attempt(), patience).is_some(), expected, "{minutes}");
        }
    }

    #[test]
    fn an_archived_object_is_accepted_a_young_leftover_or_a_finding() {
        let (open, item, patience) = record(60);
        let id = item.id;
        let listed = |size_bytes| ListedObject { key: id.archive_key(), size_bytes };
        let (right, wrong) = (listed(7), listed(8));
        let kind = |listed: &ListedObject, known: &Known<'_>, now| match object(listed, id, known, now) {
            ObjectCheck::Wrong(finding) => Some(finding.kind),
            ObjectCheck::Accepted | ObjectCheck::Leftover => None,
        };
        let (now, tomorrow) = (patience.now, patience.now.after(LEFTOVER_AGE));
        assert_eq!(object(&right, id, &Known::Item(&item), now), ObjectCheck::Accepted);
        assert_eq!(object(&right, id, &Known::Accepted(&open.message.payload), now), ObjectCheck::Accepted);
        assert_eq!(kind(&wrong, &Known::Item(&item), now), Some(Kind::SizeMismatch));
        assert_eq!(kind(&wrong, &Known::Accepted(&open.message.payload), now), Some(Kind::SizeMismatch));
        assert_eq!(object(&right, id, &Known::Nothing, now), ObjectCheck::Leftover);
        assert_eq!(kind(&right, &Known::Nothing, tomorrow), Some(Kind::ObjectWithoutItem));
        assert_eq!(record_of(&id.archive_key()), Ok(id));
        for key in [id.to_string(), id.preserved_key(), "2026/x".to_owned()] {
            assert_eq!(record_of(&key).unwrap_err().kind, Kind::ForeignObject, "{key}");
        }
    }

    #[test]
    fn a_completed_item_has_its_object_with_its_digest_and_size() {
        let (_, item, _) = record(0);
        let kind = |stored| payload(&item, stored, Kind::ItemWithoutObject).map(|finding| finding.kind);
        assert_eq!(kind(Some((item.sha256, 7))), None);
        assert_eq!(kind(None), Some(Kind::ItemWithoutObject));
        assert_eq!(kind(Some((item.sha256, 8))), Some(Kind::SizeMismatch));
        assert_eq!(kind(Some((Sha256::of(b"altered"), 7))), Some(Kind::DigestMismatch));
    }

    fn discarded(at: Timestamp) -> ItemState {
        let discard = Discard { by: "arn:x".to_owned(), at, reason: "withdrawn".to_owned() };
        ItemState::Failed { attempt: 1, discarded: Some(NotedDiscard { attempt: 1, discard }) }
    }

    #[test]
    fn an_item_that_is_not_final_claims_an_open_record_once_it_is_old() {
        let (_, mut item, patience) = record(11);
        let (_, _, early) = record(10);
        let early = StuckThreshold { now: item.id.received_at().after(MINUTE * 10), ..early };
        assert_eq!(
            (expected_place(&item, early), expected_place(&item, patience)),
            (ExpectedPlace::Nothing, ExpectedPlace::Open)
        );
        assert_eq!(not_open(&item, patience).unwrap().kind, Kind::StuckRecord);
        item.state = ItemState::Failed { attempt: 1, discarded: None };
        item.failed_at = Some(item.id.received_at().after(MINUTE));
        assert_eq!(expected_place(&item, patience), ExpectedPlace::Nothing, "it failed ten minutes ago");
        item.failed_at = Some(item.id.received_at());
        assert_eq!(not_open(&item, patience).unwrap().kind, Kind::FailedNotOpen);
        // A record that is complete or discarded when it is read again is no finding.
        item.state = discarded(patience.now);
        assert_eq!(
            (expected_place(&item, patience), not_open(&item, patience)),
            (ExpectedPlace::Nothing, None)
        );
        item.state = completed(patience.now);
        assert_eq!(
            (expected_place(&item, patience), not_open(&item, patience)),
            (ExpectedPlace::Archived, None)
        );
    }
}
