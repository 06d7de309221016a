//! The `failed` notification. The four notifications of a good record are built by the state machine, in the
//! same format.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{dead_letter::FailureSummary, message::InternalMessage};

/// The CloudEvents type of a failed record's notification.
pub const FAILED: &str = "custody.message.failed.v1";

/// A CloudEvents 1.0 notification and the attributes that subscribers filter on.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The CloudEvents type.
    pub event_type: &'static str,
    /// The record's `messageType`.
    pub message_type: String,
    /// The record's `sourceSystemID`.
    pub source_system_id: String,
    /// The event.
    pub body: Value,
}

impl Notification {
    /// The notification that a record failed. `source` is the deployment's CloudEvents source. Its `id` is that
    /// of the record, event and attempt, so that a repeated publication can be told from a new failure.
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
        let persistence = message.storage_context.persistence;
        let body = json!({
            "specversion": "1.0",
            "id": format!("{}/failed/{attempt}", message.message_id),
            "source": source,
            "type": FAILED,
            "subject": message.message_id,
            "time": failed_at,
            "datacontenttype": "application/json",
            "data": {
                "message": format!("Record failed in stage {stage}"),
                "messageID": message.message_id,
                "messageMetaData": message.meta_data,
                "payload": message.payload,
                "storageContext": message.storage_context,
                "state": {"S3Persisted": persistence.s3, "metaDataPersisted": persistence.meta_data},
                "failure": Failure { stage, error_name, reason, attempt: *attempt },
            },
        });
        Self {
            event_type: FAILED,
            message_type: message.meta_data.message_type().to_owned(),
            source_system_id: message.meta_data.source_system_id().to_owned(),
            body,
        }
    }
}
