//! The input of the failure function, from the state machine or from reconcile, and its result.

use serde::{Deserialize, Serialize};

use crate::{
    dead_letter::StageFailure,
    message::InternalMessage,
    receipt::{ArchiveReceipt, MetadataReceipt},
    record_id::RecordId,
};

/// A record whose workflow failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRecord {
    /// The message of the attempt that failed.
    pub message: InternalMessage,
    /// The archive stage's receipt, if the stage succeeded.
    pub archive: Option<ArchiveReceipt>,
    /// The metadata stage's receipt, if the stage succeeded.
    pub metadata: Option<MetadataReceipt>,
    /// The failures of the attempt's stages.
    pub failures: Vec<StageFailure>,
    /// The ARN of the execution; `None` if reconcile found the failure.
    pub execution_arn: Option<String>,
}

impl FailedRecord {
    /// Creates the input for a failure that reconcile found, outside of any stage.
    pub fn found(message: InternalMessage, failure: StageFailure) -> Self {
        Self { message, archive: None, metadata: None, failures: vec![failure], execution_arn: None }
    }

    /// Returns the JSON text of the input.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record always serializes")
    }
}

/// The result of the failure function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReceipt {
    /// The id of the record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// Whether all steps are done and only a decision is pending. If `false`, reconcile does the rest.
    pub finished: bool,
}
