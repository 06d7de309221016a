//! The dead letter of a record whose own has expired: built from the open record, or from the item of a discarded record.

use anyhow::Context as _;
use custody_core::{
    dead_letter::{DeadLetter, FailureSummary},
    message::InternalMessage,
    open_record::{OpenRecord, OpenState},
    ports::OpenRecords as _,
    record_id::RecordId,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{deployment::Deployment, failed::owed_text};

/// The dead letter of a record that waits for a decision, or, where a person insists, of one that was discarded. The inner
/// error tells why there is none.
pub(super) async fn dead_letter_of(
    deployment: &Deployment,
    id: RecordId,
    force: bool,
) -> anyhow::Result<Result<DeadLetter, String>> {
    if let Some(open) = deployment.open_records()?.find(id).await? {
        return Ok(of_open_record(&open));
    }
    let item = deployment.index()?.item(id).await?;
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
        OpenState::Failed { failure, owed } if owed.is_empty() => {
            Ok(DeadLetter::of_record(&open.message, failure.clone(), Vec::new()))
        }
        // The next attempt takes the place of this one, and with it what is owed would be forgotten.
        OpenState::Failed { owed, .. } => {
            Err(format!("reconcile does first what is owed ({}), within minutes", owed_text(owed)))
        }
    }
}

/// The dead letter of a discarded record, as its item remembers it. A discard is of the attempt that it names: what has failed
/// since is open, and undecided.
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
        open_record::FailureDuty,
        testing::{contract, samples},
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn an_open_record_is_as_good_as_its_dead_letter_once_nothing_is_owed() {
        let mut open = samples::open_record(&samples::redriven(&samples::message(b"payload")));
        of_open_record(&open).unwrap_err();
        let failure = contract::failure_of(&open.message);
        open.state = OpenState::Failed { failure: failure.clone(), owed: vec![FailureDuty::Announcement] };
        assert!(of_open_record(&open).unwrap_err().contains("announcement"));
        open.state = OpenState::Failed { failure, owed: Vec::new() };
        let letter = of_open_record(&open).unwrap();
        assert_eq!(letter.attempt(), Some(open.attempt()));
        assert_eq!(letter.request, serde_json::to_value(&open.message).unwrap());
    }

    #[test]
    fn a_discarded_record_is_redriven_from_its_item_and_one_that_failed_since_is_not() {
        let message = samples::redriven(&samples::message(b"payload"));
        let mut item = serde_json::to_value(&message).unwrap();
        // As the table keeps it.
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
