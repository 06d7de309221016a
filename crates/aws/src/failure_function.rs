//! The client of the failure function, which reconcile invokes.

use aws_sdk_lambda::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    primitives::Blob,
    types::InvocationType,
};
use custody_core::{
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    ports::FailureHandler,
};

use crate::classify::stage_error;

/// The failure function, invoked by its name.
#[derive(Clone, Debug)]
pub struct FailureFunction {
    client: Client,
    name: String,
}

impl FailureFunction {
    /// Creates the adapter of the function with this name.
    pub fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }
}

impl FailureFunction {
    /// Invokes the function and waits for its answer. There is only one try, without a time limit of its own: a second
    /// try that starts while the first invocation still runs would send a dead letter twice.
    async fn invoke(&self, payload: String, operation: &str) -> Result<Vec<u8>, StageError> {
        let once = aws_sdk_lambda::config::Config::builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled());
        let output = self
            .client
            .invoke()
            .function_name(&self.name)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(payload))
            .customize()
            .config_override(once)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::FailureFunctionUnavailable, operation))?;
        let failed = output.function_error.is_some();
        let answer = output.payload.map(Blob::into_inner).unwrap_or_default();
        if failed {
            let report = String::from_utf8_lossy(&answer).into_owned();
            return Err(StageError::new(ErrorName::FailureFunctionUnavailable, operation).caused_by(report));
        }
        Ok(answer)
    }
}

impl FailureHandler for FailureFunction {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        let operation = format!("invoke the failure function for attempt {}", failed.message.attempt());
        let answer = self.invoke(failed.to_json(), &operation).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| StageError::new(ErrorName::ServiceRefused, operation).caused_by(error))
    }
}
