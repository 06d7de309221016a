//! Rebuilds the dead letter of a record whose own one has expired or is hidden by another reader: from the open record, or from the item of
//! a discarded record.

use std::collections::BTreeMap;

use anyhow::Context as _;
use custody_core::{
    attempt::Attempt,
    clock::{Clock as _, SystemClock, Timestamp},
    dead_letter::{DeadLetter, FailureSummary},
    message::InternalMessage,
    open_record::{OpenKind, OpenRecord, OpenState},
    ports::{ItemState, OpenRecords as _, RecordTable as _},
    record_id::RecordId,
    redrive_policy::RedrivePolicy,
};
use serde::Deserialize as _;
use serde_json::Value;

use super::Options;
use crate::{
    deployment::Deployment,
    failed::step_names,
    redrives,
    survey::{self, OpenRecordIds},
};

/// Rebuilds the dead letter of a failed record that waits for a decision or, with `force`, of a discarded record. The
/// inner `Err` is the reason why the record cannot be redriven.
pub(super) async fn dead_letter_of(
    deployment: &Deployment,
    id: RecordId,
    force: bool,
    at_once: bool,
) -> anyhow::Result<Result<DeadLetter, String>> {
    if let Some(open) = deployment.open_records()?.find(id).await? {
        let now = SystemClock.now();
        let waits = open.redrive_at.filter(|due| *due > now && !at_once && !force);
        return Ok(match waits {
            Some(due) => {
                Err(format!("it waits for one already ({}); --now does not wait", redrives::due(due, now)))
            }
            None => of_open_record(&open, &deployment.table()?.states(&[id]).await?, force),
        });
    }
    let item = deployment.index()?.item_as_json(id).await?;
    Ok(match item {
        Some(item) if item["status"] == "COMPLETED" => Err("the record is COMPLETED".to_owned()),
        Some(item) if force => {
            of_discarded(&item).with_context(|| format!("read the item of record {id}"))?
        }
        Some(item) if is_discarded_item(&item) => Err(DISCARDED.to_owned()),
        Some(_) => Err("the record is neither open nor discarded".to_owned()),
        None => Err("there is no such record".to_owned()),
    })
}

/// Why a discarded record is not redriven.
const DISCARDED: &str = "it is discarded; --force redrives it nevertheless";

fn of_open_record(
    open: &OpenRecord,
    states: &BTreeMap<RecordId, ItemState>,
    force: bool,
) -> Result<DeadLetter, String> {
    match &open.state {
        // The redrive function would ignore it, and reconcile closes it.
        OpenState::Failed { .. } if !force && is_discarded(open, states.get(&open.id())) => {
            Err(DISCARDED.to_owned())
        }
        OpenState::InProgress => Err(format!("attempt {} is in progress", open.attempt().number())),
        OpenState::Failed { failure, pending_steps } if pending_steps.is_empty() => {
            Ok(DeadLetter::of_record(&open.message, failure.clone(), Vec::new()))
        }
        // The next attempt replaces this one in the open record, so the list of pending steps of this attempt would be lost.
        OpenState::Failed { pending_steps, .. } => Err(format!(
            "these steps are pending: {}; reconcile completes them within minutes",
            step_names(pending_steps)
        )),
    }
}

/// A failed record whose dead letter was not read.
#[derive(Debug, PartialEq)]
pub(super) enum Unread {
    /// The record can be redriven with this dead letter.
    Redrivable(Box<DeadLetter>),
    /// Reconcile has not completed the handling of the failure.
    Pending(RecordId),
    /// The record has used up its redrives.
    Parked(RecordId),
    /// The record waits for a redrive that was asked for, or that reconcile makes.
    Waiting(Attempt),
}

/// How many records are looked at together.
const PAGE: usize = 500;

/// Finds the selected failed records that have no dead letter among those that were read: another reader hides it, or SQS has deleted it.
/// `is_read` says of which records a dead letter was read. Also returns whether more records have failed than were looked through.
///
/// A failure after `began` is left out: the queue was read before, so its dead letter is probably there. So is a discarded record. A
/// record that waits for a redrive, asked for or reconcile's own, goes on waiting, unless `--now` is to shorten the wait.
pub(super) async fn unread(
    deployment: &Deployment,
    options: &Options,
    began: Timestamp,
    is_read: impl Fn(RecordId) -> bool,
) -> anyhow::Result<(Vec<Unread>, bool)> {
    let (open, table, policy) =
        (deployment.open_records()?, deployment.table()?, deployment.redrive_policy()?);
    let OpenRecordIds { mut ids, at_least } =
        survey::survey(&open, OpenKind::Failed, survey::MAX_COUNTED).await?;
    ids.retain(|id| !is_read(*id));
    let mut found = Vec::new();
    for page in ids.chunks(PAGE) {
        let mut records = survey::read(&open, page, OpenKind::Failed).await?;
        records.retain(|record| is_meant(record, options, began));
        let meant: Vec<RecordId> = records.iter().map(OpenRecord::id).collect();
        let states = table.states(&meant).await?;
        records.retain(|record| !is_discarded(record, states.get(&record.id())));
        found.extend(records.iter().filter_map(|record| of_unread(record, policy, options, began)));
    }
    Ok((found, at_least))
}

/// Returns whether the options select a failed record.
fn is_meant(record: &OpenRecord, options: &Options, began: Timestamp) -> bool {
    let OpenState::Failed { failure, .. } = &record.state else { return false };
    failure.failed_at < began
        && options.selection.selects_failure(&failure.stage, &failure.kind.to_string(), failure.failed_at)
}

/// Returns whether the item of a failed record says that its attempt is discarded.
fn is_discarded(record: &OpenRecord, state: Option<&ItemState>) -> bool {
    state.is_some_and(|state| state.discard_of(record.attempt().number()).is_some())
}

fn of_unread(
    record: &OpenRecord,
    policy: RedrivePolicy,
    options: &Options,
    now: Timestamp,
) -> Option<Unread> {
    let OpenState::Failed { failure, pending_steps } = &record.state else { return None };
    Some(if !pending_steps.is_empty() {
        Unread::Pending(record.id())
    } else if (redrives::waits(record.redrive_at, now) || policy.redrives(&record.message, failure))
        && !options.now
    {
        Unread::Waiting(record.attempt())
    } else if policy.parks(&record.message, failure, now) && !options.force {
        Unread::Parked(record.id())
    } else {
        Unread::Redrivable(Box::new(DeadLetter::of_record(&record.message, failure.clone(), Vec::new())))
    })
}

/// Returns whether the item of a closed record says that it is discarded.
fn is_discarded_item(item: &Value) -> bool {
    let (discarded, failed) = (item["discarded"]["attempt"].as_u64(), item["failure"]["attempt"].as_u64());
    item["status"] == "FAILED" && discarded.is_some() && discarded >= failed
}

/// Rebuilds the dead letter of a discarded record from its item. A discard applies to the attempt that it names: a
/// record that has failed in a later attempt is open, and waits for a decision.
fn of_discarded(item: &Value) -> anyhow::Result<Result<DeadLetter, String>> {
    if !is_discarded_item(item) {
        return Ok(Err("the record is neither open nor discarded".to_owned()));
    }
    let message = InternalMessage::deserialize(item).context("read its message")?;
    let failure = FailureSummary::deserialize(&item["failure"]).context("read its failure")?;
    Ok(Ok(DeadLetter::of_record(&message, failure, Vec::new())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use custody_core::{
        error::ErrorKind,
        open_record::FailureStep,
        ports::{Discard, NotedDiscard},
        testing::{contract, samples},
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_open_record_replaces_an_expired_dead_letter_once_nothing_is_owed() {
        let mut open = samples::open_record(&samples::redriven(&samples::message(b"payload")));
        let of_open_record = |open: &OpenRecord| super::of_open_record(open, &BTreeMap::new(), false);
        of_open_record(&open).unwrap_err();
        let failure = contract::failure_of(&open.message);
        open.state =
            OpenState::Failed { failure: failure.clone(), pending_steps: vec![FailureStep::Announcement] };
        assert!(of_open_record(&open).unwrap_err().contains("announcement"));
        open.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        let dead_letter = of_open_record(&open).unwrap();
        assert_eq!(dead_letter.attempt(), Some(open.attempt()));
        assert_eq!(dead_letter.request, serde_json::to_value(&open.message).unwrap());

        let discard = Discard { by: "arn:x".to_owned(), at: open.look_at, reason: "withdrawn".to_owned() };
        let attempt = open.attempt().number();
        let state = ItemState::Failed { attempt, discarded: Some(NotedDiscard { attempt, discard }) };
        let states = BTreeMap::from([(open.id(), state)]);
        assert!(
            super::of_open_record(&open, &states, false).unwrap_err().contains("--force"),
            "it never ends"
        );
        super::of_open_record(&open, &states, true).unwrap();
    }

    fn options(arguments: &[&str]) -> Options {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let line = <Line as clap::Parser>::try_parse_from([&["redrive"], arguments].concat());
        line.unwrap().options
    }

    #[test]
    fn a_failed_record_without_a_dead_letter_is_redriven_unless_something_else_comes_first() {
        let policy = RedrivePolicy {
            automatic: true,
            max_attempts: 3,
            patience: custody_core::redrive_policy::PATIENCE,
        };
        let mut record = samples::open_record(&samples::message(b"payload"));
        let mut failure = contract::failure_of(&record.message);
        let now = failure.failed_at.after(Duration::from_mins(1));
        let of = |record: &OpenRecord, force| {
            let arguments: &[&str] = if force { &["--all", "--force"] } else { &["--all"] };
            of_unread(record, policy, &options(arguments), now)
        };
        assert_eq!(of(&record, true), None, "it is in progress");
        record.state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
        assert!(matches!(of(&record, false), Some(Unread::Redrivable(_))));
        record.redrive_at = Some(now.after(Duration::from_mins(4)));
        assert_eq!(of(&record, true), Some(Unread::Waiting(record.attempt())));
        let at_once = of_unread(&record, policy, &options(&["--all", "--now"]), now);
        assert!(matches!(at_once, Some(Unread::Redrivable(_))), "{at_once:?}");
        record.redrive_at = None;
        let transient = FailureSummary { kind: ErrorKind::Transient, ..failure.clone() };
        record.state = OpenState::Failed { failure: transient, pending_steps: Vec::new() };
        assert_eq!(of(&record, true), Some(Unread::Waiting(record.attempt())), "reconcile redrives it");
        let pending_steps = vec![FailureStep::Announcement];
        record.state = OpenState::Failed { failure: failure.clone(), pending_steps };
        assert_eq!(of(&record, true), Some(Unread::Pending(record.id())));
        failure.attempt = 4;
        record.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        assert_eq!(of(&record, false), Some(Unread::Parked(record.id())));
        assert!(matches!(of(&record, true), Some(Unread::Redrivable(_))));
    }

    #[test]
    fn only_what_is_selected_and_undecided_is_redriven_without_a_dead_letter() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        let failure = contract::failure_of(&record.message);
        let began = failure.failed_at.after(Duration::from_mins(1));
        record.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        let is_meant = |record: &OpenRecord, arguments: &[&str], began| {
            super::is_meant(record, &options(arguments), began)
        };
        assert!(is_meant(&record, &["--all"], began));
        assert!(is_meant(&record, &["--stage", "archive", "--kind", "internal"], began));
        assert!(!is_meant(&record, &["--stage", "metadata"], began));
        assert!(!is_meant(&record, &["--since", &began.to_string()], began));
        let before = Timestamp::from_unix_ms(0).unwrap();
        assert!(!is_meant(&record, &["--all"], before), "its dead letter is probably on the queue by now");

        let discard = Discard { by: "arn:x".to_owned(), at: began, reason: "withdrawn".to_owned() };
        let discarded = |attempt| ItemState::Failed {
            attempt,
            discarded: Some(NotedDiscard { attempt, discard: discard.clone() }),
        };
        assert!(is_discarded(&record, Some(&discarded(1))));
        assert!(!is_discarded(&record, Some(&ItemState::Failed { attempt: 1, discarded: None })));
        assert!(!is_discarded(&record, Some(&discarded(2))), "that is another attempt");
        assert!(!is_discarded(&record, None));
    }

    #[test]
    fn a_discarded_record_is_redriven_from_its_item_and_one_that_failed_since_is_not() {
        let message = samples::redriven(&samples::message(b"payload"));
        let mut item = serde_json::to_value(&message).unwrap();
        // Items of earlier versions have no field `redrive`.
        item.as_object_mut().unwrap().remove("redrive");
        item["status"] = json!("FAILED");
        item["failure"] = serde_json::to_value(contract::failure_of(&message)).unwrap();
        of_discarded(&item).unwrap().unwrap_err();
        item["discarded"] = json!({"attempt": 1});
        of_discarded(&item).unwrap().unwrap_err();
        item["discarded"] = json!({"attempt": 2});
        assert_eq!(of_discarded(&item).unwrap().unwrap().attempt(), Some(message.attempt()));
        item["status"] = json!("COMPLETED");
        of_discarded(&item).unwrap().unwrap_err();
    }
}
