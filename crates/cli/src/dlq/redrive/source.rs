//! Rebuilds the expired dead letter of a record: from the open record, or from the item of a discarded record.

use anyhow::Context as _;
use custody_core::{
    clock::{Clock as _, SystemClock},
    dead_letter::{DeadLetter, FailureSummary},
    message::InternalMessage,
    open_record::{OpenRecord, OpenState},
    ports::OpenRecords as _,
    record_id::RecordId,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{deployment::Deployment, failed::step_names, redrives};

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
            None => of_open_record(&open),
        });
    }
    let item = deployment.index()?.item_as_json(id).await?;
    Ok(match item {
        Some(item) if force => {
            of_discarded(&item).with_context(|| format!("read the item of record {id}"))?
        }
        Some(item) if item["status"] == "COMPLETED" => Err("the record is COMPLETED".to_owned()),
        Some(_) => Err("the record is not open; --force redrives it if it was discarded".to_owned()),
        None => Err("there is no such record".to_owned()),
    })
}

fn of_open_record(open: &OpenRecord) -> Result<DeadLetter, String> {
    match &open.state {
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

/// Rebuilds the dead letter of a discarded record from its item. A discard applies to the attempt that it names: a
/// record that has failed in a later attempt is open, and waits for a decision.
fn of_discarded(item: &Value) -> anyhow::Result<Result<DeadLetter, String>> {
    let (discarded, failed) = (item["discarded"]["attempt"].as_u64(), item["failure"]["attempt"].as_u64());
    let is_discarded = item["status"] == "FAILED" && discarded.is_some() && discarded >= failed;
    if !is_discarded {
        return Ok(Err("the record is neither open nor discarded".to_owned()));
    }
    let message = InternalMessage::deserialize(item).context("read its message")?;
    let failure = FailureSummary::deserialize(&item["failure"]).context("read its failure")?;
    Ok(Ok(DeadLetter::of_record(&message, failure, Vec::new())))
}

#[cfg(test)]
mod tests {
    use custody_core::{
        open_record::FailureStep,
        testing::{contract, samples},
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_open_record_replaces_an_expired_dead_letter_once_nothing_is_owed() {
        let mut open = samples::open_record(&samples::redriven(&samples::message(b"payload")));
        of_open_record(&open).unwrap_err();
        let failure = contract::failure_of(&open.message);
        open.state =
            OpenState::Failed { failure: failure.clone(), pending_steps: vec![FailureStep::Announcement] };
        assert!(of_open_record(&open).unwrap_err().contains("announcement"));
        open.state = OpenState::Failed { failure, pending_steps: Vec::new() };
        let dead_letter = of_open_record(&open).unwrap();
        assert_eq!(dead_letter.attempt(), Some(open.attempt()));
        assert_eq!(dead_letter.request, serde_json::to_value(&open.message).unwrap());
    }

    #[test]
    fn a_discarded_record_is_redriven_from_its_item_and_one_that_failed_since_is_not() {
        let message = samples::redriven(&samples::message(b"payload"));
        let mut item = serde_json::to_value(&message).unwrap();
        // The record table does not store the field `redrive`.
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
