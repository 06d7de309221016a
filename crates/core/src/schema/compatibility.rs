//! Tests that this release understands what an earlier release of the same schema version has written, and the reverse. During a
//! deployment both run side by side, and stores and queues hold what either has written.
//!
//! `formats/` has one sample of each format. Whoever must change a sample has changed a format: an earlier release must be able to
//! read the new form, or `SCHEMA_VERSION` grows.

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::read;
use crate::{
    dead_letter::DeadLetter,
    failed_record::{FailedRecord, FailureReceipt},
    idempotency::Claim,
    manifest::Manifest,
    message::InternalMessage,
    open_record::OpenRecord,
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt, Receipt},
    stages::aggregate::AggregateInput,
    upload::Upload,
};

/// Reads a text of a format, and writes it again.
type Rewrite = fn(&str) -> Result<Value, String>;

fn rewrite<T: Serialize + DeserializeOwned + Debug>(text: &str) -> Result<Value, String> {
    let value: T = read(text.as_bytes(), "read a sample").map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// The samples, and the types that they are of.
fn formats() -> BTreeMap<&'static str, (&'static str, Rewrite)> {
    macro_rules! formats {
        ($($name:literal: $format:ty),* $(,)?) => {
            BTreeMap::from([$(($name, (include_str!(concat!("formats/", $name, ".json")), rewrite::<$format> as Rewrite))),*])
        };
    }
    formats! {
        "aggregate-input": AggregateInput,
        "archive-receipt": ArchiveReceipt,
        "claim": Claim,
        "dead-letter": DeadLetter,
        "failed-record": FailedRecord,
        "failure-receipt": FailureReceipt,
        "final-record": FinalRecord,
        "manifest": Manifest,
        "message": InternalMessage,
        "message-of-a-redrive": InternalMessage,
        "message-of-an-upload": InternalMessage,
        "metadata-receipt": MetadataReceipt,
        "open-record": OpenRecord,
        "open-record-failed": OpenRecord,
        "receipt": Receipt,
        "upload": Upload,
    }
}

#[test]
fn what_an_earlier_release_has_written_is_read_and_written_alike() {
    for (name, (text, rewrite)) in formats() {
        let written: Value = serde_json::from_str(text).unwrap();
        assert_eq!(rewrite(text).unwrap(), written, "{name}");
    }
}

/// A release may add a field without a new schema version, if an older one can do without it.
#[test]
fn fields_that_a_later_release_adds_are_no_obstacle() {
    fn extend(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(extend);
                fields.insert("fieldOfALaterRelease".to_owned(), json!({"a": [1]}));
            }
            Value::Array(items) => items.iter_mut().for_each(extend),
            _ => {}
        }
    }
    for (name, (text, rewrite)) in formats() {
        let mut later: Value = serde_json::from_str(text).unwrap();
        extend(&mut later);
        rewrite(&later.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
