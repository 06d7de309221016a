//! What an error of an AWS service means for the caller, decided in one place for all services.

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_smithy_runtime_api::{
    client::{orchestrator::HttpResponse, result::SdkError},
    http::StatusCode,
};
use aws_smithy_types::error::{display::DisplayErrorContext, metadata::ProvideErrorMetadata};
use custody_core::error::{ErrorName, StageError};

/// Error codes by which services deny access. Source: the "Common errors" pages of the services used.
const DENIED: [&str; 7] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
];

/// Error codes that ask for patience and that the SDK's own lists lack: a throttled key of an encrypted topic, and
/// S3's answers to two conditional writers at once.
const BUSY: [&str; 3] = ["KMSThrottling", "ConditionalRequestConflict", "OperationAborted"];

/// The stage error of a failed call. `unavailable` is the name to use when the service could not be had.
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
        // Timeouts, refused connections, answers that broke off: the effect may or may not have happened.
        _ => unavailable,
    };
    let cause = if let SdkError::ServiceError(_) = error {
        // What the service says names the denied action, or the value it refuses.
        format!("{}: {}", error.code().unwrap_or("no error code"), error.message().unwrap_or("no message"))
    } else {
        let text = DisplayErrorContext(error).to_string();
        // The context ends in a debug form of the whole error, in parentheses.
        text.split(" (").next().unwrap_or_default().to_owned()
    };
    StageError::new(name, operation).caused_by(cause)
}

fn classify(code: &str, status: StatusCode, unavailable: ErrorName) -> ErrorName {
    let busy = THROTTLING_ERRORS.contains(&code) || TRANSIENT_ERRORS.contains(&code) || BUSY.contains(&code);
    // Before denials: some services throttle with 403.
    if busy || status.is_server_error() || status.as_u16() == 429 {
        unavailable
    } else if DENIED.contains(&code) || matches!(status.as_u16(), 401 | 403) {
        ErrorName::AccessDenied
    } else {
        ErrorName::ServiceRefused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_need_a_person_and_throttling_needs_patience() {
        for (code, status, name) in [
            ("AccessDenied", 403, ErrorName::AccessDenied),
            ("AccessDeniedException", 400, ErrorName::AccessDenied),
            ("", 403, ErrorName::AccessDenied),
            ("ProvisionedThroughputExceededException", 400, ErrorName::TableUnavailable),
            ("ThrottlingException", 400, ErrorName::TableUnavailable),
            ("RequestThrottled", 403, ErrorName::TableUnavailable),
            ("KMSThrottling", 400, ErrorName::TableUnavailable),
            ("ConditionalRequestConflict", 409, ErrorName::TableUnavailable),
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
