//! What the failure function is invoked with: by the state machine, or by reconcile.

use serde::{Deserialize, Serialize};

use crate::{
    dead_letter::StageFailure,
    message::InternalMessage,
    receipt::{ArchiveReceipt, MetadataReceipt},
};

/// A record whose workflow failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRecord {
    /// The message of the attempt that failed.
    pub message: InternalMessage,
    /// The archive stage's receipt, where it came that far.
    pub archive: Option<ArchiveReceipt>,
    /// The metadata stage's receipt, where it came that far.
    pub metadata: Option<MetadataReceipt>,
    /// What failed.
    pub failures: Vec<StageFailure>,
    /// The execution.
    pub execution_arn: Option<String>,
}

impl FailedRecord {
    /// A failure that reconcile found, outside of any stage.
    pub fn found(message: InternalMessage, failure: StageFailure) -> Self {
        Self { message, archive: None, metadata: None, failures: vec![failure], execution_arn: None }
    }

    /// The failure function's input.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record always serializes")
    }
}
