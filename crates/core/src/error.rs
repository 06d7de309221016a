//! Why a stage failed, under a name that the state machine matches on.
//!
//! *Invariant:* whether a failure is worth another try is decided in [`ErrorName::kind`] and nowhere else;
//! the state machine's retries name exactly the transient names of this module (a test compares them).

use std::fmt;

use serde::{Deserialize, Serialize};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a caller should do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Try again later: the same call can succeed.
    Transient,
    /// Do not try again: the input itself is wrong.
    Invalid,
    /// Do not try again: something else already holds the place.
    Conflict,
    /// Do not try again before a person has looked: permissions, configuration or a defect.
    Internal,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

macro_rules! error_names {
    ($($(#[$doc:meta])* $name:ident: $kind:ident,)*) => {
        /// The name of a stage's failure: Lambda's `errorType`, Step Functions' `Error`, the DLQ message's
        /// `errorName`. A public contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorName {
            $($(#[$doc])* $name,)*
        }

        impl ErrorName {
            /// Every name.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What a caller should do about it.
            pub const fn kind(self) -> ErrorKind {
                match self {
                    $(Self::$name => ErrorKind::$kind,)*
                }
            }

            /// The name as text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

error_names! {
    /// Redis did not answer, refused, or confirmed too few replicas.
    CacheUnavailable: Transient,
    /// S3 throttled, failed or did not answer for the archive bucket.
    ArchiveUnavailable: Transient,
    /// S3 throttled, failed or did not answer for the failed-records bucket.
    FailedStoreUnavailable: Transient,
    /// S3 throttled, failed or did not answer for an acceptance marker.
    MarkersUnavailable: Transient,
    /// DynamoDB throttled, failed or did not answer.
    TableUnavailable: Transient,
    /// SQS throttled, failed or did not answer.
    QueueUnavailable: Transient,
    /// SNS throttled, failed or did not answer.
    TopicUnavailable: Transient,
    /// Step Functions throttled, failed or did not answer.
    WorkflowUnavailable: Transient,
    /// Lambda throttled, failed or did not answer for the failure function.
    FailureFunctionUnavailable: Transient,
    /// A stage was invoked with input that is not of its format.
    InvalidInput: Invalid,
    /// The payload was in no store when it was looked for. Whether it is lost, a second look decides.
    PayloadMissing: Transient,
    /// The payload is in no store, and was in none when it was looked for before, longer ago than a failover takes.
    PayloadLost: Internal,
    /// The workflow was started again and again for longer than transient failures are waited for, and reached no end.
    WorkflowIncomplete: Internal,
    /// The payload that was read does not have the record's digest.
    PayloadCorrupted: Internal,
    /// The archive holds another object under the record's key.
    ArchiveConflict: Conflict,
    /// The table holds another record under the record's id.
    MetadataConflict: Conflict,
    /// The item that the stage should complete does not exist.
    ItemMissing: Internal,
    /// A service denied access: a policy or a key needs a person.
    AccessDenied: Internal,
    /// A service refused the request as such, or answered what it should not.
    ServiceRefused: Internal,
    /// The function's configuration is not usable.
    ConfigurationInvalid: Internal,
}

impl ErrorName {
    /// The name that has this text.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.as_str() == text)
    }
}

/// Transient failures that Lambda, SNS and Step Functions themselves raise for a task: a function that crashed,
/// was throttled or took too long. Source: the AWS Step Functions guide, "Handling errors", and the error codes
/// of the two services.
pub const TRANSIENT_PLATFORM_ERRORS: &[&str] = &[
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.EC2ThrottledException",
    "Lambda.ENILimitReachedException",
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

/// The kind of an error known by its name alone, as Step Functions reports it.
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
    /// Its name, and through it its kind.
    pub name: ErrorName,
    operation: String,
    source: Option<BoxError>,
}

impl StageError {
    /// A failure of `operation`, which names what was done to what: `store object 2026/…`.
    pub fn new(name: ErrorName, operation: impl Into<String>) -> Self {
        Self { name, operation: operation.into(), source: None }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller should do about it.
    pub fn kind(&self) -> ErrorKind {
        self.name.kind()
    }
}

impl fmt::Display for StageError {
    /// The operation and the chain of causes on one line: this text is all that reaches the state machine.
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
        for name in ErrorName::ALL {
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
