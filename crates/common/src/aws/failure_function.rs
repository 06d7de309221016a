//! The failure function, as ingest invokes it.

use aws_sdk_lambda::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    primitives::Blob,
    types::InvocationType,
};
use custody_core::{
    error::{ErrorName, StageError},
    ports::Salvage,
    rejected_request::RejectedRequest,
};

use super::classify::stage_error;

/// The failure function.
#[derive(Clone, Debug)]
pub struct FailureFunction {
    client: Client,
    name: String,
}

impl FailureFunction {
    /// The function of this name.
    pub fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }
}

impl Salvage for FailureFunction {
    /// Invoked synchronously: only so does a whole request fit, and the outcome is known.
    async fn salvage(&self, request: &RejectedRequest<'_>) -> Result<(), StageError> {
        let operation = "hand a refused request to the failure function";
        // One try, as long as ingest gives it: a second one, while the first still runs, would explain the request twice.
        let once = aws_sdk_lambda::config::Config::builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled());
        let output = self
            .client
            .invoke()
            .function_name(&self.name)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(request.to_json()))
            .customize()
            .config_override(once)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::FailureFunctionUnavailable, operation))?;
        if output.function_error().is_none() {
            return Ok(());
        }
        let report = output.payload().map(|blob| String::from_utf8_lossy(blob.as_ref()).into_owned());
        Err(StageError::new(ErrorName::FailureFunctionUnavailable, operation)
            .caused_by(report.unwrap_or_default()))
    }
}
