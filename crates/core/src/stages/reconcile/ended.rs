//! Executions that ended badly: whether the failure function was done before, and what it must be told if not.

use serde::Deserialize;

use crate::{
    dead_letter::StageFailure,
    message::InternalMessage,
    receipt::{ArchiveReceipt, MetadataReceipt},
    stages::failure::{Explanation, FailedRecord},
};

/// The name under which an execution ends whose failure function gave up.
pub const FAILURE_NOT_HANDLED: &str = "FailureNotHandled";

/// The name under which an execution ends whose failure function explained the failure and left something undone.
pub const FAILURE_UNFINISHED: &str = "FailureUnfinished";

/// The name, for reports, of an execution that took too long as a whole.
pub const TIMED_OUT: &str = "States.Timeout";

/// The name, for reports, of an execution that somebody stopped.
pub const ABORTED: &str = "Aborted";

/// How the cause of an execution begins whose failure was handled.
pub const HANDLED: &str = r#"{"handled":true"#;

/// Whether an execution that ended with this cause had its failure handled. The name it ended under cannot tell: there
/// are errors that no state can catch (`States.Runtime`, `States.DataLimitExceeded`), and tasks fail under the same names.
pub(super) fn was_handled(cause: &str) -> bool {
    let mut cause = cause.chars().filter(|c| !c.is_whitespace());
    HANDLED.chars().all(|expected| cause.next() == Some(expected))
}

/// What the state machine knew when it gave up, as it puts it into its end's cause.
#[derive(Default, Deserialize)]
struct Known {
    #[serde(default)]
    failures: Vec<StageFailure>,
    archive: Option<ArchiveReceipt>,
    metadata: Option<MetadataReceipt>,
}

/// The input of the failure function for a run whose execution ended without it.
pub(super) fn failed_record(
    message: InternalMessage,
    execution_arn: String,
    error: &str,
    cause: &str,
) -> FailedRecord {
    let mut known: Known = serde_json::from_str(cause).unwrap_or_default();
    if known.failures.is_empty() {
        let cause = match error {
            TIMED_OUT => "the workflow as a whole took too long".to_owned(),
            ABORTED => "the workflow was stopped before the record reached its end".to_owned(),
            _ => cause.to_owned(),
        };
        known.failures = vec![StageFailure {
            stage: "workflow".to_owned(),
            error_name: error.to_owned(),
            cause,
            tries: 1,
        }];
    }
    let explanation =
        if error == FAILURE_UNFINISHED { Explanation::Given } else { Explanation::WhenFinished };
    FailedRecord {
        message,
        archive: known.archive,
        metadata: known.metadata,
        failures: known.failures,
        execution_arn: Some(execution_arn),
        explanation,
    }
}
