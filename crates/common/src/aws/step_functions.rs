//! The workflow on Step Functions.

use aws_sdk_sfn::{Client, error::SdkError, operation::start_execution::StartExecutionError};
use custody_core::{
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::Workflow,
};

use super::classify::stage_error;

/// The state machine.
#[derive(Clone, Debug)]
pub struct StateMachine {
    client: Client,
    arn: String,
}

impl StateMachine {
    /// The state machine with this ARN.
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }
}

impl Workflow for StateMachine {
    /// The execution is named after the record, so that starting twice is one execution.
    async fn start(&self, message: &InternalMessage) -> Result<(), StageError> {
        let id = message.message_id;
        let start = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .name(id.to_string())
            .input(message.to_json())
            .send()
            .await;
        match start {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(context))
                if matches!(context.err(), StartExecutionError::ExecutionAlreadyExists(_)) =>
            {
                Ok(())
            }
            Err(error) => Err(stage_error(
                &error,
                ErrorName::WorkflowUnavailable,
                format!("start the execution of record {id}"),
            )),
        }
    }
}
