//! What the failure function is invoked with: by the state machine, or by ingest.

use serde::Deserialize;
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
#[derive(Debug, Deserialize)]
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
    /// How many times the record has been through the workflow.
    #[serde(default = "first_attempt")]
    pub attempt: u32,
}

const fn first_attempt() -> u32 {
    1
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
