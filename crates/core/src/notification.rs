//! The notifications of a record: CloudEvents that report the progress of an attempt.
//!
//! The state machine publishes the four notifications of a successful attempt, with the same content as this module.
//! Reconcile publishes them again if the workflow could not publish them, or may not have published them. The failure
//! function announces a failure, and reconcile announces a discard. *Invariant:* one id has one content.
//! A notification says what is true, and nothing about the rest: the two branches of an attempt do not know of each
//! other, so neither says that the other's part is missing. Every value comes from what was stored first, so that every publisher of an event publishes
//! the same content.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    attempt::Attempt,
    dead_letter::FailureSummary,
    message::{InternalMessage, StorageContext},
    ports::{CompletedItem, NotedDiscard},
};

/// The CloudEvents type of the notification that a record was accepted.
pub const RECEIVED: &str = "custody.message.received.v1";
/// The CloudEvents type of the notification that a payload is archived.
pub const ARCHIVED: &str = "custody.message.archived.v1";
/// The CloudEvents type of the notification that metadata is stored.
pub const METADATA_STORED: &str = "custody.message.metadata-stored.v1";
/// The CloudEvents type of the notification that a record is complete.
pub const COMPLETED: &str = "custody.message.completed.v1";
/// The CloudEvents type of a failed record's notification.
pub const FAILED: &str = "custody.message.failed.v1";
/// The CloudEvents type of the notification that an operator has discarded a failed record.
pub const DISCARDED: &str = "custody.message.discarded.v1";

/// A CloudEvents 1.0 notification and the attributes that subscribers filter on.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The CloudEvents type.
    pub event_type: &'static str,
    /// The record's `messageType`.
    pub message_type: String,
    /// The record's `sourceSystemID`.
    pub source_system_id: String,
    /// The CloudEvent.
    pub body: Value,
}

impl Notification {
    /// Returns the four notifications of an attempt that has completed its record, in the order in which they are
    /// published. `source` is the deployment's CloudEvents source.
    pub fn of_completed(source: &str, message: &InternalMessage, item: &CompletedItem) -> [Self; 4] {
        let known = &message.storage_context;
        let mut archived = known.clone();
        archived.s3_reference.clone_from(&item.s3_reference);
        archived.persistence.s3 = true;
        let mut stored = known.clone();
        stored.metadata_reference.clone_from(&item.metadata_reference);
        stored.persistence.metadata = true;
        let mut completed = archived.clone();
        completed.redis_reference = None;
        completed.metadata_reference.clone_from(&item.metadata_reference);
        completed.persistence.metadata = true;
        let event = |event_type, time: &dyn std::fmt::Display, text, context: &StorageContext| {
            Self::new(
                source,
                message,
                message.attempt(),
                event_type,
                time,
                json!({ "message": text }),
                context,
            )
        };
        [
            event(RECEIVED, &message.begun_at(), "The record was accepted and is stored durably.", known),
            event(ARCHIVED, &item.times.archived_at, "The payload is archived.", &archived),
            event(METADATA_STORED, &item.stored_at, "The metadata is stored.", &stored),
            event(
                COMPLETED,
                &item.times.completed_at,
                "The record is archived and its metadata is complete.",
                &completed,
            ),
        ]
    }

    /// Returns the notification of a failed attempt.
    pub fn failed(source: &str, message: &InternalMessage, failure: &FailureSummary) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure<'a> {
            stage: &'a str,
            error_name: &'a str,
            reason: &'a str,
            attempt: u32,
        }
        let FailureSummary { stage, error_name, reason, attempt, failed_at, .. } = failure;
        let data = json!({
            "message": format!("Record failed in stage {stage}"),
            "failure": Failure { stage, error_name, reason, attempt: *attempt },
        });
        Self::new(source, message, message.attempt(), FAILED, failed_at, data, &message.storage_context)
    }

    /// Returns the notification that an operator has discarded the record. It tells the reason, and not where
    /// the parts of the record are: its payload has just been removed from the cache.
    pub fn discarded(source: &str, message: &InternalMessage, noted: &NotedDiscard) -> Self {
        let NotedDiscard { attempt, discard } = noted;
        let data = json!({
            "message": "An operator has discarded the record: it gets no further attempt.",
            "discard": { "reason": discard.reason },
        });
        let attempt = Attempt::new(message.message_id, *attempt);
        Self::new(source, message, attempt, DISCARDED, &discard.at, data, &StorageContext::default())
    }

    fn new(
        source: &str,
        message: &InternalMessage,
        attempt: Attempt,
        event_type: &'static str,
        time: &dyn std::fmt::Display,
        mut data: Value,
        storage_context: &StorageContext,
    ) -> Self {
        let (id, attempt) = (message.message_id, attempt.number());
        let name = event_type.trim_start_matches("custody.message.").trim_end_matches(".v1");
        let persistence = storage_context.persistence;
        data["messageID"] = json!(id);
        data["attempt"] = json!(attempt);
        data["messageMetaData"] = json!(message.metadata);
        data["payload"] = json!(message.payload);
        data["storageContext"] = json!(storage_context);
        let true_of = |names: [&str; 2]| -> Map<String, Value> {
            let facts = names.into_iter().zip([persistence.s3, persistence.metadata]);
            facts
                .filter(|(_, is_true)| *is_true)
                .map(|(name, _)| (name.to_owned(), Value::from(true)))
                .collect()
        };
        data["storageContext"]["persistence"] = true_of(["S3", "metaData"]).into();
        data["state"] = true_of(["S3Persisted", "metaDataPersisted"]).into();
        let body = json!({
            "specversion": "1.0",
            "id": format!("{id}/{name}/{attempt}"),
            "source": source,
            "type": event_type,
            "subject": id,
            "time": time.to_string(),
            "datacontenttype": "application/json",
            "data": data,
        });
        Self {
            event_type,
            message_type: message.metadata.message_type().to_owned(),
            source_system_id: message.metadata.source_system_id().to_owned(),
            body,
        }
    }
}
