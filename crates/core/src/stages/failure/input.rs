//! What the failure function is invoked with: by the state machine, or by ingest.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::Timestamp,
    dead_letter::StageFailure,
    error::{ErrorName, StageError},
    message::InternalMessage,
    receipt::{ArchiveReceipt, MetadataReceipt},
};

/// What the failure function is invoked with.
#[derive(Debug)]
pub enum FailureInput {
    /// By the state machine.
    Record(Box<FailedRecord>),
    /// By ingest.
    Request(SalvagedRequest),
}

impl FailureInput {
    /// Reads the function's input. Its `kind` says which of the two it is; the event of a request stays raw text,
    /// because it may have megabytes.
    pub fn parse(text: &str) -> Result<Self, StageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Kind {
            Record,
            Request,
        }
        #[derive(Deserialize)]
        struct Tag {
            kind: Kind,
        }
        let read = || -> serde_json::Result<Self> {
            Ok(match serde_json::from_str::<Tag>(text)?.kind {
                Kind::Record => Self::Record(serde_json::from_str(text)?),
                Kind::Request => Self::Request(serde_json::from_str(text)?),
            })
        };
        read().map_err(|error| {
            StageError::new(ErrorName::InvalidInput, "read the failure to handle").caused_by(error)
        })
    }
}

/// A record whose workflow failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedRecord {
    /// The record.
    pub message: InternalMessage,
    /// The archive stage's receipt, where it came that far.
    pub archive: Option<ArchiveReceipt>,
    /// The metadata stage's receipt, where it came that far.
    pub metadata: Option<MetadataReceipt>,
    /// What failed.
    pub failures: Vec<StageFailure>,
    /// The execution.
    pub execution_arn: Option<String>,
    /// What is still owed to the operator.
    #[serde(default)]
    pub explanation: Explanation,
}

/// Whether a failed record's dead letter is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Explanation {
    /// At once, whatever else cannot be done: the workflow calls for the first time.
    #[default]
    Now,
    /// When everything else is done: reconcile calls, and will call every minute until it is. A letter each time would
    /// bury the queue.
    WhenFinished,
    /// Not at all: it was sent before, and said that something was left to do.
    Given,
}

impl FailedRecord {
    /// The failure function's input.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Tagged<'a> {
            kind: &'static str,
            #[serde(flatten)]
            record: &'a FailedRecord,
        }
        serde_json::to_string(&Tagged { kind: "record", record: self }).expect("a record always serializes")
    }
}

/// A request that ingest could not take, as ingest handed it over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SalvagedRequest {
    /// API Gateway's id of the request.
    pub request_id: Option<String>,
    /// When ingest refused it.
    pub refused_at: Timestamp,
    /// The problem's name.
    pub error_name: String,
    /// The problem's detail, as the producer was told.
    pub reason: String,
    /// The proxy event without secrets and repetitions.
    pub event: Box<RawValue>,
}
