//! The dead-letter message: why a record or a request did not make it, and where its bytes are.

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
        self.cause = shortened(self.cause, MAX_REASON_CHARS);
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

/// How an earlier attempt of a record failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PastFailure {
    /// The number of the attempt.
    pub attempt: u32,
    /// The stage that failed first.
    pub stage: String,
    /// What to do about it.
    pub kind: ErrorKind,
    /// Its error's name.
    pub error_name: String,
    /// What happened, shortened.
    pub reason: String,
    /// When.
    pub failed_at: Timestamp,
    /// Which execution of the workflow.
    pub execution_arn: Option<String>,
}

/// How many earlier attempts a record carries on. With it, a message stays below the limits of SQS and Step Functions
/// however often somebody insists on running a record again.
const MAX_HISTORY: usize = 10;

/// The longest reason of an earlier attempt, in characters.
const MAX_PAST_REASON_CHARS: usize = 512;

impl PastFailure {
    /// `earlier` and this failure, oldest first, as far as a record carries its history on.
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
    /// How earlier attempts of the record failed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastFailure>,
    /// Whether the record has had as many attempts as it may without a person's word.
    #[serde(default, skip_serializing_if = "is_false")]
    pub parked: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(value: &bool) -> bool {
    !*value
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
            history: message.history().to_vec(),
            parked: false,
        }
    }

    /// The letter of a request that ingest could not take.
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

    /// When the first attempt that this letter remembers failed.
    pub fn first_failed_at(&self) -> Timestamp {
        self.history.first().map_or(self.failure.failed_at, |past| past.failed_at)
    }

    /// The same dead letter with one more remark for the operator, unless it has that remark.
    #[must_use]
    pub fn remarked(mut self, remark: String) -> Self {
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
