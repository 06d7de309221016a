//! The dead letter: why a record failed or a request was not accepted, and where the bytes are.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    SCHEMA_VERSION,
    attempt::Attempt,
    clock::Timestamp,
    error::{ErrorKind, kind_of},
    message::{InternalMessage, S3Reference},
    record_id::RecordId,
};

/// The maximum length of a stored explanation, in characters. This limit keeps a dead letter far below the limit of
/// SQS: its other large part, the metadata, is limited on arrival.
const MAX_REASON_CHARS: usize = 4096;

/// One failure of one stage, as Step Functions caught it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageFailure {
    /// The stage: `archive`, `metadata`, `aggregate`, `announce-received`, …
    pub stage: String,
    /// The name of the error.
    pub error_name: String,
    /// The cause of the failure, as text.
    pub cause: String,
    /// How many times this attempt tried the stage.
    #[serde(default = "once")]
    pub tries: u32,
}

const fn once() -> u32 {
    1
}

impl StageFailure {
    /// Returns the failure in the form that is stored: a cause in Lambda's JSON, `{"errorType", "errorMessage"}`, is
    /// reduced to its message, and every cause is limited in length.
    #[must_use]
    pub fn summarized(mut self) -> Self {
        if let Ok(Value::Object(report)) = serde_json::from_str(&self.cause)
            && let Some(Value::String(message)) = report.get("errorMessage")
        {
            self.cause.clone_from(message);
        }
        self.cause = shortened(self.cause, MAX_REASON_CHARS);
        self
    }
}

/// The summary of a failed attempt, as the open record, the record's item and the dead letter store it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureSummary {
    /// The stage that failed first.
    pub stage: String,
    /// What to do about the failure.
    pub kind: ErrorKind,
    /// The name of the error.
    pub error_name: String,
    /// The cause of the failure, as text.
    pub reason: String,
    /// The number of the attempt that failed.
    pub attempt: u32,
    pub failed_at: Timestamp,
    /// The ARN of the execution that failed; `None` if the failure did not come from an execution.
    pub execution_arn: Option<String>,
    /// Where the payload, or the rejected request, is stored; `None` if it is in no store.
    pub payload_reference: Option<S3Reference>,
    /// All failures of this attempt. There may be several, because the branches of the workflow fail independently.
    pub failures: Vec<StageFailure>,
}

impl FailureSummary {
    /// Creates the summary of `failures`, which has at least one element in every message that Custody writes.
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
            cause: "the workflow reported a failure without naming it".to_owned(),
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

/// How an earlier attempt of a record failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastFailure {
    /// The number of the attempt.
    pub attempt: u32,
    /// The stage that failed first.
    pub stage: String,
    /// What to do about the failure.
    pub kind: ErrorKind,
    /// The name of the error.
    pub error_name: String,
    /// The cause of the failure, shortened.
    pub reason: String,
    pub failed_at: Timestamp,
    /// The ARN of the execution that failed; `None` if the failure did not come from an execution.
    pub execution_arn: Option<String>,
}

/// The maximum number of earlier failures that a record carries. This limit keeps a message below the limits of SQS and
/// Step Functions, however often an operator redrives the record.
const MAX_HISTORY: usize = 10;

/// The maximum length of the reason of an earlier failure, in characters.
const MAX_PAST_REASON_CHARS: usize = 512;

impl PastFailure {
    /// Returns `earlier` followed by this failure, oldest first. If there are more failures than a record may carry,
    /// the oldest are dropped.
    pub fn history(earlier: &[Self], failure: &FailureSummary) -> Vec<Self> {
        let mut history = earlier.to_vec();
        history.push(Self {
            attempt: failure.attempt,
            stage: failure.stage.clone(),
            kind: failure.kind,
            error_name: failure.error_name.clone(),
            reason: shortened(failure.reason.clone(), MAX_PAST_REASON_CHARS),
            failed_at: failure.failed_at,
            execution_arn: failure.execution_arn.clone(),
        });
        history.drain(..history.len().saturating_sub(MAX_HISTORY));
        history
    }
}

fn shortened(mut text: String, max_chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(max_chars) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A message on the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The version of this format.
    pub schema_version: u32,
    /// The id of the record; `None` for a request that never became one.
    #[serde(rename = "messageID")]
    pub message_id: Option<RecordId>,
    /// The failure.
    #[serde(flatten)]
    pub failure: FailureSummary,
    /// The internal message, or what is known of the request.
    pub request: Value,
    /// Remarks for the operator, for example about steps of the failure handling that could not be done; usually empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<String>,
    /// How earlier attempts of the record failed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastFailure>,
    /// Whether the record has used up the attempts that it may have without a decision of an operator.
    #[serde(default, skip_serializing_if = "is_false")]
    pub parked: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl DeadLetter {
    /// Creates the dead letter of a record whose workflow failed.
    pub fn of_record(message: &InternalMessage, failure: FailureSummary, unfinished: Vec<String>) -> Self {
        let request = serde_json::to_value(message).expect("a message always serializes");
        Self {
            schema_version: SCHEMA_VERSION,
            message_id: Some(message.message_id),
            failure,
            request,
            unfinished,
            history: message.history().to_vec(),
            parked: false,
        }
    }

    /// Creates the dead letter of a request that ingest did not accept.
    pub fn of_request(request: Value, failure: FailureSummary) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            message_id: None,
            failure,
            request,
            unfinished: Vec::new(),
            history: Vec::new(),
            parked: false,
        }
    }

    /// The attempt that failed; `None` for a request that never became a record.
    pub fn attempt(&self) -> Option<Attempt> {
        self.message_id.map(|record| Attempt::new(record, self.failure.attempt))
    }

    /// When the first failed attempt in this dead letter failed. The history may have dropped earlier attempts.
    pub fn first_failed_at(&self) -> Timestamp {
        self.history.first().map_or(self.failure.failed_at, |past| past.failed_at)
    }

    /// Returns the dead letter with one more remark for the operator, unless it has that remark already.
    #[must_use]
    pub fn with_remark(mut self, remark: String) -> Self {
        if !self.unfinished.contains(&remark) {
            self.unfinished.push(remark);
        }
        self
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
