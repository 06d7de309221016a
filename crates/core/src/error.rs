//! The names of stage failures, on which the state machine matches.
//!
//! *Invariant:* only [`ErrorName::kind`] decides whether a failure is worth another try. The retries of the state
//! machine name exactly the transient names of this module; a test compares them.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a caller should do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Display)]
pub enum ErrorKind {
    /// Try again later: the same call can succeed.
    Transient,
    /// Do not try again: the input itself is wrong.
    Invalid,
    /// Do not try again: something else is stored under the same key.
    Conflict,
    /// Do not try again before an operator has corrected the cause: permissions, configuration or a defect.
    Internal,
}

/// The name of a stage's failure: Lambda's `errorType`, Step Functions' `Error`, the dead letter's `errorName`. The names are
/// a public contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(const_into_str)]
pub enum ErrorName {
    /// The cache did not answer, refused the command, or confirmed too few replicas.
    CacheUnavailable,
    /// S3 throttled, failed or did not answer for the archive bucket.
    ArchiveUnavailable,
    /// S3 throttled, failed or did not answer for the failed bucket.
    FailedStoreUnavailable,
    /// S3 throttled, failed or did not answer for an acceptance marker.
    MarkersUnavailable,
    /// DynamoDB throttled, failed or did not answer.
    TableUnavailable,
    /// SQS throttled, failed or did not answer.
    QueueUnavailable,
    /// SNS throttled, failed or did not answer.
    TopicUnavailable,
    /// Step Functions throttled, failed or did not answer.
    WorkflowUnavailable,
    /// Lambda throttled, failed or did not answer for the failure function.
    FailureFunctionUnavailable,
    /// A stage, or a store, has something in the format of a newer release. A function of that release reads it later.
    NewerSchemaVersion,
    /// A stage was invoked with input that is not of its format.
    InvalidInput,
    /// The payload was in no store when it was looked for. A second look decides whether it is lost.
    PayloadMissing,
    /// The payload was in no store at two looks, which were further apart than a failover takes.
    PayloadLost,
    /// The workflow was started repeatedly, for longer than transient failures are waited for, and did not bring the
    /// record to an end.
    WorkflowIncomplete,
    /// The payload that was read does not have the record's digest.
    PayloadCorrupted,
    /// The archive has another object under the record's key.
    ArchiveConflict,
    /// The record table has another record under the record's id.
    MetadataConflict,
    /// The item that the stage should complete does not exist.
    ItemMissing,
    /// A service denied access: an operator must correct a policy or a key.
    AccessDenied,
    /// A service rejected the request as invalid, or sent an unexpected answer.
    ServiceRefused,
    /// The function's configuration is not usable.
    ConfigurationInvalid,
}

impl ErrorName {
    /// Returns what a caller should do about a failure of this name.
    pub const fn kind(self) -> ErrorKind {
        match self {
            Self::CacheUnavailable
            | Self::ArchiveUnavailable
            | Self::FailedStoreUnavailable
            | Self::MarkersUnavailable
            | Self::TableUnavailable
            | Self::QueueUnavailable
            | Self::TopicUnavailable
            | Self::WorkflowUnavailable
            | Self::FailureFunctionUnavailable
            | Self::NewerSchemaVersion
            | Self::PayloadMissing => ErrorKind::Transient,
            Self::InvalidInput => ErrorKind::Invalid,
            Self::PayloadLost
            | Self::WorkflowIncomplete
            | Self::PayloadCorrupted
            | Self::ItemMissing
            | Self::AccessDenied
            | Self::ServiceRefused
            | Self::ConfigurationInvalid => ErrorKind::Internal,
            Self::ArchiveConflict | Self::MetadataConflict => ErrorKind::Conflict,
        }
    }

    /// The name as text.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Returns the name with this text.
    pub fn from_name(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The failures of a function that was idle for weeks: Lambda has taken back its network interfaces, and the first invocation fails
/// while it makes new ones. That takes a minute or so, and the workflow waits for it. Source: AWS Lambda developer guide, "Lambda
/// function states"; AWS Step Functions developer guide, "Handle transient Lambda service exceptions". That the last two of the names ending in
/// `NotReady` and `Pending` reach a workflow is reported by users only.
pub const FUNCTION_NOT_READY: &[&str] = &[
    "Lambda.CodeArtifactUserPendingException",
    "Lambda.EC2UnexpectedException",
    "Lambda.ENINotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.ResourceNotReadyException",
];

/// Transient failures that AWS services themselves raise for a task of the state machine: for example, a function
/// crashed, was throttled or took too long. Source: the AWS Step Functions guide, "Handling errors", and the error
/// codes of the services.
pub const TRANSIENT_PLATFORM_ERRORS: &[&str] = &[
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.CodeArtifactUserPendingException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
    "Lambda.ENILimitReachedException",
    "Lambda.ENINotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.ResourceNotReadyException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.SubnetIPAddressLimitReachedException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "DynamoDB.AmazonDynamoDBException",
    "DynamoDB.InternalServerErrorException",
    "DynamoDB.ProvisionedThroughputExceededException",
    "DynamoDB.RequestLimitExceededException",
    "DynamoDB.SdkClientException",
    "DynamoDB.TransactionConflictException",
    "SNS.AmazonSNSException",
    "SNS.InternalErrorException",
    "SNS.KMSThrottlingException",
    "SNS.SdkClientException",
    "SNS.ThrottledException",
    "States.Timeout",
];

/// Returns the kind of an error of which only the name is known, as Step Functions reports it.
pub fn kind_of(error_name: &str) -> ErrorKind {
    match ErrorName::from_name(error_name) {
        Some(name) => name.kind(),
        None if TRANSIENT_PLATFORM_ERRORS.contains(&error_name) => ErrorKind::Transient,
        None => ErrorKind::Internal,
    }
}

/// The failure of a stage.
#[derive(Debug)]
pub struct StageError {
    /// The name, which determines the kind.
    pub name: ErrorName,
    operation: String,
    source: Option<BoxError>,
}

impl StageError {
    /// Creates the failure of `operation`, which names an action and its subject: `store object 2026/…`.
    pub fn new(name: ErrorName, operation: impl Into<String>) -> Self {
        Self { name, operation: operation.into(), source: None }
    }

    /// Adds the cause of the failure.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns what a caller should do about the failure.
    pub fn kind(&self) -> ErrorKind {
        self.name.kind()
    }
}

impl fmt::Display for StageError {
    /// Writes the operation and the chain of causes on one line. The state machine gets only this text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.operation)?;
        let mut cause: Option<&(dyn std::error::Error + 'static)> =
            self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static));
        let mut last = String::new();
        while let Some(error) = cause {
            let text = error.to_string();
            // Wrappers often repeat their source's text.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for StageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_leave_the_reserved_prefix_alone() {
        for name in ErrorName::VARIANTS {
            assert!(!name.as_str().starts_with("States."));
            assert_eq!(ErrorName::from_name(name.as_str()), Some(*name));
            assert_eq!(kind_of(name.as_str()), name.kind());
        }
    }

    #[test]
    fn errors_of_the_platform_have_a_kind_too() {
        for (name, kind) in [
            ("Lambda.TooManyRequestsException", ErrorKind::Transient),
            ("Runtime.ExitError", ErrorKind::Transient),
            ("Sandbox.Timedout", ErrorKind::Transient),
            ("States.Timeout", ErrorKind::Transient),
            ("Lambda.AccessDeniedException", ErrorKind::Internal),
            ("States.QueryEvaluationError", ErrorKind::Internal),
            ("SomethingElse", ErrorKind::Internal),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }

    #[test]
    fn the_text_names_operation_and_causes_once_each() {
        let io = std::io::Error::other("connection reset");
        let error = StageError::new(ErrorName::CacheUnavailable, "read payload of record 7").caused_by(io);
        assert_eq!(error.to_string(), "read payload of record 7: connection reset");
    }
}
