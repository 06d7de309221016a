//! The dead-letter message: why a record or a request did not make it, and where its bytes are.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    SCHEMA_VERSION,
    clock::Timestamp,
    error::{ErrorKind, kind_of},
    message::{InternalMessage, S3Reference},
    record_id::RecordId,
};

/// The longest explanation kept, in characters. With it, a message stays far below SQS's limit: its other large
/// part, the metadata, is limited on arrival.
const MAX_REASON_CHARS: usize = 4096;

/// One failure of one stage, as Step Functions caught it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageFailure {
    /// The stage: `archive`, `metadata`, `aggregate`, `announce-received`, …
    pub stage: String,
    /// The error's name.
    pub error_name: String,
    /// What happened.
    pub cause: String,
    /// How many times this attempt tried the stage.
    #[serde(default = "once")]
    pub tries: u32,
}

const fn once() -> u32 {
    1
}

impl StageFailure {
    /// The failure as kept: Lambda's JSON `{"errorType", "errorMessage"}` reduced to its message, and bounded.
    #[must_use]
    pub fn summarized(mut self) -> Self {
        if let Ok(Value::Object(report)) = serde_json::from_str(&self.cause)
            && let Some(Value::String(message)) = report.get("errorMessage")
        {
            self.cause.clone_from(message);
        }
        if let Some((end, _)) = self.cause.char_indices().nth(MAX_REASON_CHARS) {
            self.cause.truncate(end);
            self.cause.push('…');
        }
        self
    }
}

/// What the index keeps of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureSummary {
    /// The stage that failed first.
    pub stage: String,
    /// What to do about it.
    pub kind: ErrorKind,
    /// Its error's name.
    pub error_name: String,
    /// What happened.
    pub reason: String,
    /// How many times the record has been through the workflow, this time included.
    pub attempt: u32,
    /// When.
    pub failed_at: Timestamp,
    /// Which execution of the workflow.
    pub execution_arn: Option<String>,
    /// Where the payload is kept; `None` when it could not be found.
    pub payload_reference: Option<S3Reference>,
    /// Every failure of this attempt: branches fail independently.
    pub failures: Vec<StageFailure>,
}

impl FailureSummary {
    /// A summary of `failures`, which has at least one element in any message of ours.
    pub fn new(
        failures: Vec<StageFailure>,
        attempt: u32,
        failed_at: Timestamp,
        execution_arn: Option<String>,
    ) -> Self {
        let failures: Vec<_> = failures.into_iter().map(StageFailure::summarized).collect();
        let first = failures.first().cloned().unwrap_or_else(|| StageFailure {
            stage: "unknown".to_owned(),
            error_name: "Unknown".to_owned(),
            cause: "the workflow reported a failure and named none".to_owned(),
            tries: 1,
        });
        Self {
            stage: first.stage,
            kind: kind_of(&first.error_name),
            error_name: first.error_name,
            reason: first.cause,
            attempt,
            failed_at,
            execution_arn,
            payload_reference: None,
            failures,
        }
    }
}

/// A message on the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The version of this format.
    pub schema_version: u32,
    /// The record; `None` for a request that never became one.
    #[serde(rename = "messageID")]
    pub message_id: Option<RecordId>,
    /// Why.
    #[serde(flatten)]
    pub failure: FailureSummary,
    /// The internal message, or what is known of the request.
    pub request: Value,
    /// What could not be done about the failure itself, for the operator; usually nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
}

impl DeadLetter {
    /// The letter of a record whose workflow failed.
    pub fn of_record(message: &InternalMessage, failure: FailureSummary, unfinished: Vec<String>) -> Self {
        let request = serde_json::to_value(message).expect("a message always serializes");
        Self {
            schema_version: SCHEMA_VERSION,
            message_id: Some(message.message_id),
            failure,
            request,
            unfinished,
        }
    }

    /// The letter of a request that ingest could not take.
    pub fn of_request(request: Value, failure: FailureSummary) -> Self {
        Self { schema_version: SCHEMA_VERSION, message_id: None, failure, request, unfinished: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lambdas_error_report_is_reduced_to_its_message_and_bounded() {
        let failure = |cause: String| {
            StageFailure { stage: "archive".into(), error_name: "X".into(), cause, tries: 1 }.summarized()
        };
        let report = r#"{"errorType":"X","errorMessage":"it broke","stackTrace":[]}"#;
        assert_eq!(failure(report.to_owned()).cause, "it broke");
        assert_eq!(failure("plain".to_owned()).cause, "plain");
        assert_eq!(failure("ä".repeat(5000)).cause.chars().count(), MAX_REASON_CHARS + 1);
    }
}
