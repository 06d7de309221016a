//! The item of an open record. Every value that conditions or the index need is an attribute of its own. The rest is
//! JSON text, which preserves every number and the order of all fields exactly.

use aws_sdk_dynamodb::types::AttributeValue;
use custody_core::{
    error::{ErrorName, StageError},
    open_record::{FailureStep, IndexEntry, OpenKind, OpenRecord, OpenState},
    schema,
    stored_names::attributes::{
        ACCEPTED_AT, ATTEMPT, DURABILITY, FAILURE, IDEMPOTENCY_KEY, LOOK_AT, LOOKS, MESSAGE, MESSAGE_ID,
        MISSING_SINCE, PARTITION, PENDING_STEPS, REDRIVE_AT, STARTED_AT, STARTS, STATE,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    conditional_write::Attributes,
    values::{number, number_of, text, text_of, time, time_of},
};

pub(super) fn steps(pending_steps: &[FailureStep]) -> AttributeValue {
    AttributeValue::L(pending_steps.iter().map(|step| text(name_of(step))).collect())
}

/// Returns the name of a unit variant in serde's spelling.
fn name_of(value: &impl Serialize) -> String {
    let name = serde_json::to_value(value).expect("a unit variant always serializes");
    name.as_str().unwrap_or_default().to_owned()
}

fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(name.into()).ok()
}

pub(super) fn encode(record: &OpenRecord) -> Attributes {
    let id = record.id();
    let mut item = Attributes::from([
        (MESSAGE_ID.to_owned(), text(id)),
        (ATTEMPT.to_owned(), number(record.attempt().number())),
        (STATE.to_owned(), text(record.kind().as_str())),
        (PARTITION.to_owned(), text(record.kind().partition_key(id.partition()))),
        (LOOK_AT.to_owned(), time(record.look_at)),
        (LOOKS.to_owned(), number(record.looks)),
        (STARTS.to_owned(), number(record.starts)),
        (STARTED_AT.to_owned(), time(record.started_at)),
        (DURABILITY.to_owned(), text(name_of(&record.durability))),
        (MESSAGE.to_owned(), text(record.message.to_json())),
    ]);
    if let Some(key) = &record.key {
        item.insert(IDEMPOTENCY_KEY.to_owned(), text(key));
    }
    if let Some(accepted_at) = record.message.accepted_later_at {
        item.insert(ACCEPTED_AT.to_owned(), time(accepted_at));
    }
    if let Some(since) = record.missing_since {
        item.insert(MISSING_SINCE.to_owned(), time(since));
    }
    if let Some(due) = record.redrive_at {
        item.insert(REDRIVE_AT.to_owned(), time(due));
    }
    if let OpenState::Failed { failure, pending_steps } = &record.state {
        let failure = serde_json::to_string(failure).expect("a summary always serializes");
        item.insert(FAILURE.to_owned(), text(failure));
        item.insert(PENDING_STEPS.to_owned(), steps(pending_steps));
    }
    item
}

/// Reads an open record. A record of a newer release is a `NewerSchemaVersion`, which reconcile postpones.
pub(super) fn decode(item: &Attributes, operation: &str) -> Result<OpenRecord, StageError> {
    schema::expect_known(text_of(item, MESSAGE).unwrap_or_default().as_bytes(), operation)?;
    read(item).ok_or_else(|| unreadable(operation))
}

fn read(item: &Attributes) -> Option<OpenRecord> {
    let state = match text_of(item, STATE)? {
        state if state == OpenKind::InProgress.as_str() => OpenState::InProgress,
        state if state == OpenKind::Failed.as_str() => OpenState::Failed {
            failure: serde_json::from_str(text_of(item, FAILURE)?).ok()?,
            pending_steps: item
                .get(PENDING_STEPS)?
                .as_l()
                .ok()?
                .iter()
                .map(|step| named(step.as_s().ok()?))
                .collect::<Option<_>>()?,
        },
        _ => return None,
    };
    let key = item.get(IDEMPOTENCY_KEY).map(|key| named(key.as_s().ok()?));
    Some(OpenRecord {
        message: serde_json::from_str(text_of(item, MESSAGE)?).ok()?,
        durability: named(text_of(item, DURABILITY)?)?,
        starts: number_of(item, STARTS)?,
        started_at: time_of(item, STARTED_AT)?,
        look_at: time_of(item, LOOK_AT)?,
        looks: number_of(item, LOOKS)?,
        key: key.flatten(),
        missing_since: time_of(item, MISSING_SINCE),
        redrive_at: time_of(item, REDRIVE_AT),
        state,
    })
}

pub(super) fn index_entry(item: &Attributes) -> Option<IndexEntry> {
    Some(IndexEntry {
        look_at: time_of(item, LOOK_AT)?,
        id: text_of(item, MESSAGE_ID)?.parse().ok()?,
        accepted_later_at: time_of(item, ACCEPTED_AT),
    })
}

/// Creates the error for an item that is not in the format of an open record.
pub(super) fn unreadable(operation: &str) -> StageError {
    StageError::new(ErrorName::ServiceRefused, format!("{operation}: the item is not an open record"))
}

/// Checks that the item that an acceptance found is the same record, accepted by a call whose reply was lost. Fails if
/// that record has another payload.
pub(super) fn expect_same_record(existing: &Attributes, record: &OpenRecord) -> Result<(), StageError> {
    let operation = || format!("accept record {}", record.id());
    let known = decode(existing, &operation())?;
    if known.message.payload.sha256 == record.message.payload.sha256 {
        return Ok(());
    }
    let text = format!("{}: it is already open with another payload", operation());
    Err(StageError::new(ErrorName::MetadataConflict, text))
}

#[cfg(test)]
mod tests {
    use custody_core::{
        error::ErrorKind,
        testing::{contract, samples},
    };
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn every_open_record_reads_back_as_it_was_written() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        assert_eq!(read(&encode(&record)), Some(record.clone()));
        record.missing_since = Some(record.look_at);
        record.redrive_at = Some(record.look_at);
        record.message.accepted_later_at = Some(record.look_at);
        assert_eq!(index_entry(&encode(&record)).map(|entry| entry.accepted_at()), Some(record.look_at));
        record.key = named(&"ab".repeat(32));
        assert!(record.key.is_some());
        record.state = OpenState::Failed {
            failure: contract::failure_of(&record.message),
            pending_steps: FailureStep::VARIANTS.to_vec(),
        };
        assert_eq!(read(&encode(&record)), Some(record.clone()));
        for (name, value) in encode(&record) {
            if ![
                "idempotencyKey",
                "missingSince",
                "redriveAt",
                "messageID",
                "attempt",
                "partition",
                "acceptedAt",
            ]
            .contains(&name.as_str())
            {
                let mut broken = encode(&record);
                broken.remove(&name);
                assert_eq!(read(&broken), None, "without {name}: {value:?}");
            }
        }
    }

    #[test]
    fn a_record_of_a_newer_release_is_postponed_and_not_stuck() {
        let record = samples::open_record(&samples::message(b"payload"));
        let mut item = encode(&record);
        assert_eq!(decode(&item, "find it").unwrap(), record);
        let newer = record.message.to_json().replace("\"schemaVersion\":1", "\"schemaVersion\":2");
        item.insert(MESSAGE.to_owned(), text(newer));
        let error = decode(&item, "find it").unwrap_err();
        assert_eq!((error.name, error.kind()), (ErrorName::NewerSchemaVersion, ErrorKind::Transient));
        item.insert(MESSAGE.to_owned(), text("{}"));
        assert_eq!(decode(&item, "find it").unwrap_err().name, ErrorName::ServiceRefused);
    }
}
