//! The workflow on Step Functions.

use std::time::Duration;

use aws_sdk_sfn::{
    Client,
    error::SdkError,
    operation::{
        describe_execution::{DescribeExecutionError, DescribeExecutionOutput},
        start_execution::StartExecutionError,
    },
    types::ExecutionStatus,
};
use custody_core::{
    clock::{Clock as _, Timestamp},
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{Outcome, Start, Workflow},
    run::Run,
    stages::reconcile::ended,
};

use super::classify::stage_error;
use crate::clock::SystemClock;

/// The state machine.
#[derive(Clone, Debug)]
pub struct StateMachine {
    client: Client,
    arn: String,
}

/// An execution that began longer ago than this was not begun by the call that names it. It tells the two apart in
/// reports only, so the clocks need not agree any better.
const JUST_NOW: Duration = Duration::from_mins(1);

impl StateMachine {
    /// The state machine with this ARN.
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }

    /// The ARN of a run's execution.
    pub fn execution_arn(&self, run: Run) -> String {
        format!("{}:{run}", self.arn.replace(":stateMachine:", ":execution:"))
    }
}

impl Workflow for StateMachine {
    /// The execution is named after the run, so that starting twice is one execution. Step Functions answers a start of an
    /// execution under way, with the same input, as it did the first.
    async fn start(&self, message: &InternalMessage) -> Result<Start, StageError> {
        let run = message.run();
        let start = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .name(run.to_string())
            .input(message.to_json())
            .send()
            .await;
        match start {
            Ok(started) => {
                let began = started.start_date().to_millis().ok().and_then(Timestamp::from_unix_ms);
                let now = SystemClock.now();
                Ok(if began.is_some_and(|began| now.since(began) > JUST_NOW) {
                    Start::Running
                } else {
                    Start::Started
                })
            }
            Err(SdkError::ServiceError(context))
                if matches!(context.err(), StartExecutionError::ExecutionAlreadyExists(_)) =>
            {
                Ok(Start::Existed)
            }
            Err(error) => Err(stage_error(
                &error,
                ErrorName::WorkflowUnavailable,
                format!("start the execution of run {run}"),
            )),
        }
    }

    async fn outcome(&self, run: Run) -> Result<Option<Outcome>, StageError> {
        let arn = self.execution_arn(run);
        match self.client.describe_execution().execution_arn(&arn).send().await {
            Ok(execution) => Ok(Some(outcome(execution, arn))),
            Err(SdkError::ServiceError(context))
                if matches!(context.err(), DescribeExecutionError::ExecutionDoesNotExist(_)) =>
            {
                Ok(None)
            }
            Err(error) => Err(stage_error(
                &error,
                ErrorName::WorkflowUnavailable,
                format!("describe the execution of run {run}"),
            )),
        }
    }
}

fn outcome(execution: DescribeExecutionOutput, execution_arn: String) -> Outcome {
    let cause = execution.cause.unwrap_or_default();
    let ended = |error: String| Outcome::Ended { execution_arn, error, cause };
    match execution.status {
        ExecutionStatus::Succeeded => Outcome::Succeeded,
        ExecutionStatus::Failed => ended(execution.error.unwrap_or_default()),
        ExecutionStatus::TimedOut => ended(ended::TIMED_OUT.to_owned()),
        ExecutionStatus::Aborted => ended(ended::ABORTED.to_owned()),
        // Under way, or waiting for a person to redrive it.
        _ => Outcome::Running,
    }
}
