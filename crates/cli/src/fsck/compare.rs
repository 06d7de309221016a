//! The comparisons of `fsck`, apart from the calls that bring what is compared.

use std::time::Duration;

use custody_aws::{AuditedItem, ListedObject};
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    idempotency::CLAIM_LIFE,
    message::PayloadDescriptor,
    open_record::{OpenRecord, OpenState},
    ports::ItemState,
    record_id::RecordId,
};

use super::findings::{Finding, Kind};
use crate::{failed::owed_text, output::human};

/// How old an archived object that nobody was promised must be to be reported. The archive keeps what a replay, a conflict or an
/// acceptance without an answer leaves behind: its producer repeats the request within the life of a claim, or not at all.
const LEFTOVER_AGE: Duration = CLAIM_LIFE;

/// How late is too late.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) now: Timestamp,
    pub(super) stuck_after: Duration,
}

impl Patience {
    pub(super) fn is_over(self, since: Timestamp) -> bool {
        self.now.since(since) > self.stuck_after
    }

    fn age(self, since: Timestamp) -> String {
        human(self.now.since(since))
    }
}

/// What an open record comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The record is on its way.
    Moving,
    /// The record has failed, and nothing but a decision is owed: a person's, or an automatic redrive's. Whether its dead
    /// letter is on the queue does not matter, because dead letters expire, and are hidden from others while somebody looks.
    WaitsForDecision,
    /// The record is stuck.
    Stuck(Finding),
}

/// Compares an open record with its item.
pub(super) fn open_record(open: &OpenRecord, item: Option<&AuditedItem>, patience: Patience) -> Progress {
    let (id, attempt) = (open.id(), open.attempt().number());
    // Since when reconcile should have closed it; the epoch where nothing tells.
    let settled = item.and_then(|item| match &item.state {
        ItemState::Completed(completed) => Some(("COMPLETED", completed.times.completed_at)),
        ItemState::Failed { attempt: of, discarded: true } if *of >= attempt => {
            Some(("discarded", item.discarded_at.unwrap_or(id.received_at())))
        }
        ItemState::Failed { .. } | ItemState::Received => None,
    });
    let stuck = |kind, since, detail: String| {
        if patience.is_over(since) {
            Progress::Stuck(Finding::new(kind, id, detail))
        } else {
            Progress::Moving
        }
    };
    match (settled, &open.state) {
        (Some((what, since)), _) => {
            let detail = format!("{what} for {}, and still open", patience.age(since));
            stuck(Kind::NotClosed, since, detail)
        }
        (None, OpenState::Failed { owed, .. }) if owed.is_empty() => Progress::WaitsForDecision,
        (None, OpenState::Failed { owed, failure }) => {
            let (since, owed) = (failure.failed_at, owed_text(owed));
            let detail =
                format!("attempt {attempt} failed {} ago, and still owes: {owed}", patience.age(since));
            stuck(Kind::DutyOwed, since, detail)
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
pub(super) fn marker(marker: Attempt, patience: Patience) -> Option<Finding> {
    let since = marker.record.received_at();
    let detail = format!("accepted {} ago, and not adopted: reconcile's log tells why", patience.age(since));
    patience.is_over(since).then(|| Finding::new(Kind::MarkerNotAdopted, marker.record, detail))
}

/// What is known of the record of an archived object.
#[derive(Debug)]
pub(super) enum Known<'a> {
    Item(&'a AuditedItem),
    /// An open record, or an acceptance marker.
    Accepted(&'a PayloadDescriptor),
    Nothing,
}

/// What an archived object comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A record's payload.
    Promised,
    /// A payload that nobody was promised, and young enough to be nothing else.
    Leftover,
    /// Something else.
    Wrong(Finding),
}

/// Compares an archived object with what is known of its record. Its digest is compared where its item is looked at.
pub(super) fn object(listed: &ListedObject, id: RecordId, known: &Known<'_>, now: Timestamp) -> Object {
    let promised = match known {
        Known::Item(item) => item.size_bytes,
        Known::Accepted(payload) => payload.size_bytes,
        Known::Nothing if now.since(id.received_at()) < LEFTOVER_AGE => return Object::Leftover,
        Known::Nothing => {
            let detail = "archived, with neither item, open record nor marker: nobody was promised it, or its item is gone";
            return Object::Wrong(Finding::new(Kind::ObjectWithoutItem, id, detail));
        }
    };
    if promised == listed.size_bytes {
        return Object::Promised;
    }
    let detail = format!("the record has {promised} bytes, the archived object {}", listed.size_bytes);
    Object::Wrong(Finding::new(Kind::SizeMismatch, id, detail))
}

/// The record that an object of this key belongs to.
pub(super) fn record_of(key: &str) -> Result<RecordId, Finding> {
    let id: Option<RecordId> = key.rsplit('/').next().and_then(|name| name.parse().ok());
    id.filter(|id| id.archive_key() == key).ok_or_else(|| {
        Finding::new(Kind::ForeignObject, key, "the archive has an object that is no record's")
    })
}

/// What an item is to be held against.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The payload is archived.
    Archived,
    /// The record is open, and its payload is secure where the failure reports so.
    Open,
    /// Nothing: the record is too young, or was discarded.
    Nothing,
}

/// What an item claims.
pub(super) fn claim(item: &AuditedItem, patience: Patience) -> Claim {
    match item.state {
        ItemState::Completed(_) => Claim::Archived,
        ItemState::Failed { discarded: true, .. } => Claim::Nothing,
        ItemState::Failed { .. } if patience.is_over(item.failed_at.unwrap_or(item.id.received_at())) => {
            Claim::Open
        }
        ItemState::Received if patience.is_over(item.id.received_at()) => Claim::Open,
        ItemState::Failed { .. } | ItemState::Received => Claim::Nothing,
    }
}

/// Compares an item with an object of its payload, in the archive or in the failed bucket. `absent` is the finding where
/// there is none.
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

/// Judges an item that claims to be open and is not: neither an open record nor a marker is there, and the item, read again
/// after that, is `latest`.
pub(super) fn not_open(latest: &AuditedItem, patience: Patience) -> Option<Finding> {
    if claim(latest, patience) != Claim::Open {
        return None;
    }
    let (kind, detail) = match latest.state {
        ItemState::Received => (Kind::StuckRecord, "RECEIVED, and not open: nothing goes on with it"),
        _ => (Kind::FailedNotOpen, "FAILED, and neither open nor discarded: nobody is asked to decide"),
    };
    Some(Finding::new(kind, latest.id, detail))
}

#[cfg(test)]
mod tests {
    use custody_core::{
        open_record::FailureDuty,
        ports::{CompletedItem, CompletionTimes},
        testing::{contract, samples},
    };

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// An open record, its item, and the time at which it is `minutes` old.
    fn record(minutes: u32) -> (OpenRecord, AuditedItem, Patience) {
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
        (open, item, Patience { now, stuck_after: MINUTE * 10 })
    }

    fn completed(at: Timestamp) -> ItemState {
        ItemState::Completed(CompletedItem {
            s3_reference: None,
            meta_data_reference: None,
            stored_at: at,
            times: CompletionTimes { archived_at: at, completed_at: at },
        })
    }

    fn kind(progress: Progress) -> Option<Kind> {
        match progress {
            Progress::Stuck(finding) => Some(finding.kind),
            Progress::Moving | Progress::WaitsForDecision => None,
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
        assert_eq!(open_record(&open, None, patience), Progress::Moving);
    }

    #[test]
    fn a_record_that_is_settled_is_closed_in_time() {
        let (open, mut item, patience) = record(30);
        let received_at = open.message.received_at;
        for (minutes, expected) in [(25, None), (5, Some(Kind::NotClosed))] {
            let at = received_at.after(MINUTE * minutes);
            item.state = completed(at);
            assert_eq!(kind(open_record(&open, Some(&item), patience)), expected, "{minutes}");
            item.state = ItemState::Failed { attempt: 1, discarded: true };
            item.discarded_at = Some(at);
            assert_eq!(kind(open_record(&open, Some(&item), patience)), expected, "{minutes}");
        }
        let mut next = open;
        next.message = samples::redriven(&next.message);
        // The discard was of the attempt before: this one was forced, and is undecided again.
        let failure = contract::failure_of(&next.message);
        next.state = OpenState::Failed { failure, owed: Vec::new() };
        assert_eq!(open_record(&next, Some(&item), patience), Progress::WaitsForDecision);
    }

    #[test]
    fn a_failed_record_may_wait_for_a_decision_for_ever_but_not_for_its_duties() {
        let (mut open, _, _) = record(0);
        let failure = contract::failure_of(&open.message);
        let patience =
            |minutes| Patience { now: failure.failed_at.after(MINUTE * minutes), stuck_after: MINUTE * 10 };
        open.state = OpenState::Failed { failure: failure.clone(), owed: Vec::new() };
        assert_eq!(open_record(&open, None, patience(60 * 24 * 15)), Progress::WaitsForDecision);
        open.state = OpenState::Failed { failure: failure.clone(), owed: vec![FailureDuty::DeadLetter] };
        assert_eq!(open_record(&open, None, patience(10)), Progress::Moving);
        assert_eq!(kind(open_record(&open, None, patience(11))), Some(Kind::DutyOwed));
    }

    #[test]
    fn a_marker_is_adopted_in_time() {
        for (minutes, expected) in [(10, false), (11, true)] {
            let (open, _, patience) = record(minutes);
            assert_eq!(marker(open.attempt(), patience).is_some(), expected, "{minutes}");
        }
    }

    #[test]
    fn an_object_is_a_records_a_young_leftover_or_wrong() {
        let (open, item, patience) = record(60);
        let id = item.id;
        let listed = |size_bytes| ListedObject { key: id.archive_key(), size_bytes };
        let (right, wrong) = (listed(7), listed(8));
        let kind = |listed: &ListedObject, known: &Known<'_>, now| match object(listed, id, known, now) {
            Object::Wrong(finding) => Some(finding.kind),
            Object::Promised | Object::Leftover => None,
        };
        let (now, tomorrow) = (patience.now, patience.now.after(LEFTOVER_AGE));
        assert_eq!(object(&right, id, &Known::Item(&item), now), Object::Promised);
        assert_eq!(object(&right, id, &Known::Accepted(&open.message.payload), now), Object::Promised);
        assert_eq!(kind(&wrong, &Known::Item(&item), now), Some(Kind::SizeMismatch));
        assert_eq!(kind(&wrong, &Known::Accepted(&open.message.payload), now), Some(Kind::SizeMismatch));
        assert_eq!(object(&right, id, &Known::Nothing, now), Object::Leftover);
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

    #[test]
    fn an_item_that_is_not_final_claims_an_open_record_once_it_is_old() {
        let (_, mut item, patience) = record(11);
        let (_, _, early) = record(10);
        let early = Patience { now: item.id.received_at().after(MINUTE * 10), ..early };
        assert_eq!((claim(&item, early), claim(&item, patience)), (Claim::Nothing, Claim::Open));
        assert_eq!(not_open(&item, patience).unwrap().kind, Kind::StuckRecord);
        item.state = ItemState::Failed { attempt: 1, discarded: false };
        item.failed_at = Some(item.id.received_at().after(MINUTE));
        assert_eq!(claim(&item, patience), Claim::Nothing, "it failed ten minutes ago");
        item.failed_at = Some(item.id.received_at());
        assert_eq!(not_open(&item, patience).unwrap().kind, Kind::FailedNotOpen);
        // What is settled by the time it is read again is no finding.
        item.state = ItemState::Failed { attempt: 1, discarded: true };
        assert_eq!((claim(&item, patience), not_open(&item, patience)), (Claim::Nothing, None));
        item.state = completed(patience.now);
        assert_eq!((claim(&item, patience), not_open(&item, patience)), (Claim::Archived, None));
    }
}
