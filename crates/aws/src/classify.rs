//! The classification of AWS errors: which error name a failed call gets. All services use the same rules.

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_smithy_runtime_api::{
    client::{orchestrator::HttpResponse, result::SdkError},
    http::StatusCode,
};
use aws_smithy_types::error::{display::DisplayErrorContext, metadata::ProvideErrorMetadata};
use custody_core::error::{ErrorName, StageError};

/// Error codes that mean denied access. Source: the "Common errors" pages of the services used.
const ACCESS_DENIED_CODES: [&str; 7] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
];

/// Error codes of transient errors that the lists of the SDK lack: a throttled KMS key of an encrypted topic, two
/// concurrent conditional writes to one S3 object, and a function that was idle for weeks and is being made ready.
const EXTRA_TRANSIENT_CODES: [&str; 5] = [
    "KMSThrottling",
    "ConditionalRequestConflict",
    "OperationAborted",
    "ResourceConflictException",
    "CodeArtifactUserPendingException",
];

/// Converts the error of a failed call. `unavailable` is the error name for a service that is unavailable.
pub fn stage_error<E>(
    error: &SdkError<E, HttpResponse>,
    unavailable: ErrorName,
    operation: impl Into<String>,
) -> StageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let name = match error {
        SdkError::ConstructionFailure(_) => ErrorName::ConfigurationInvalid,
        SdkError::ServiceError(context) => {
            classify(context.err().code().unwrap_or_default(), context.raw().status(), unavailable)
        }
        // Timeouts, refused connections and incomplete answers: the call may or may not have had its effect.
        _ => unavailable,
    };
    let cause = if let SdkError::ServiceError(context) = error {
        // The service's message names the denied action, or the value that the service rejects.
        match (error.code(), error.message()) {
            (None, None) => format!("the service answered {} and no reason", context.raw().status()),
            (code, message) => {
                format!("{}: {}", code.unwrap_or("no error code"), message.unwrap_or("no message"))
            }
        }
    } else {
        let text = DisplayErrorContext(error).to_string();
        // The text ends with the debug form of the whole error, in parentheses. It is cut off.
        text.split(" (").next().unwrap_or_default().to_owned()
    };
    StageError::new(name, operation).caused_by(cause)
}

fn classify(code: &str, status: StatusCode, unavailable: ErrorName) -> ErrorName {
    let busy = THROTTLING_ERRORS.contains(&code)
        || TRANSIENT_ERRORS.contains(&code)
        || EXTRA_TRANSIENT_CODES.contains(&code);
    // Throttling is checked before denied access, because some services throttle with status 403.
    if busy || status.is_server_error() || status.as_u16() == 429 {
        unavailable
    } else if ACCESS_DENIED_CODES.contains(&code) || matches!(status.as_u16(), 401 | 403) {
        ErrorName::AccessDenied
    } else {
        ErrorName::ServiceRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_is_transient_and_denied_access_is_not() {
        for (code, status, name) in [
            ("AccessDenied", 403, ErrorName::AccessDenied),
            ("AccessDeniedException", 400, ErrorName::AccessDenied),
            ("", 403, ErrorName::AccessDenied),
            ("ProvisionedThroughputExceededException", 400, ErrorName::TableUnavailable),
            ("ThrottlingException", 400, ErrorName::TableUnavailable),
            ("RequestThrottled", 403, ErrorName::TableUnavailable),
            ("KMSThrottling", 400, ErrorName::TableUnavailable),
            ("ConditionalRequestConflict", 409, ErrorName::TableUnavailable),
            ("ResourceConflictException", 409, ErrorName::TableUnavailable),
            ("InternalServerError", 500, ErrorName::TableUnavailable),
            ("", 503, ErrorName::TableUnavailable),
            ("ValidationException", 400, ErrorName::ServiceRefused),
            ("NoSuchBucket", 404, ErrorName::ServiceRefused),
        ] {
            let status = StatusCode::try_from(status).unwrap();
            assert_eq!(
                classify(code, status, ErrorName::TableUnavailable),
                name,
                "{code} {}",
                status.as_u16()
            );
        }
    }
}
