//! The workflow on Step Functions.

use std::time::Duration;

use aws_sdk_sfn::{Client, error::SdkError, operation::start_execution::StartExecutionError};
use custody_core::{
    attempt::Attempt,
    clock::{Clock as _, SystemClock, Timestamp},
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{Start, Workflow},
};

use crate::classify::stage_error;

/// The type of a state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowType {
    /// Step Functions starts one execution for each name, and remembers the name for 90 days.
    Standard,
    /// Every start creates an execution, whatever its name is. An execution may run twice, and is stopped after five
    /// minutes.
    Express,
}

impl std::str::FromStr for WorkflowType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "STANDARD" => Ok(Self::Standard),
            "EXPRESS" => Ok(Self::Express),
            _ => Err(()),
        }
    }
}

/// The state machine that runs the workflow.
#[derive(Clone, Debug)]
pub struct StateMachine {
    client: Client,
    arn: String,
    workflow_type: WorkflowType,
}

/// The largest age of an execution that counts as started by the current call. An older one was started by an earlier
/// call. The difference matters only for reports, so a small difference between the clocks does no harm.
const MAX_AGE_OF_NEW_EXECUTION: Duration = Duration::from_mins(1);

/// The number of parts of a state machine's ARN: `arn:aws:states:<region>:<account>:stateMachine:<name>`.
const PARTS_OF_AN_ARN: usize = 7;

impl StateMachine {
    /// Creates the adapter of the state machine with this ARN and type.
    pub fn new(client: Client, arn: String, workflow_type: WorkflowType) -> Self {
        Self { client, arn, workflow_type }
    }

    /// Returns the ARN of an execution of a `STANDARD` state machine.
    pub fn execution_arn(&self, attempt: Attempt, start: u32) -> String {
        let name = attempt.execution_name(start);
        // The ARN of an alias has one more part, which the ARNs of its executions lack.
        let machine: Vec<_> = self.arn.split(':').take(PARTS_OF_AN_ARN).collect();
        format!("{}:{name}", machine.join(":").replace(":stateMachine:", ":execution:"))
    }
}

impl Workflow for StateMachine {
    fn recognizes_names(&self) -> bool {
        self.workflow_type == WorkflowType::Standard
    }

    /// Starts an execution that is named after the attempt and the number of the start. If an execution with the same
    /// name and input is running, Step Functions repeats its first answer. If an execution with this name has ended,
    /// Step Functions returns an error. Source: AWS Step Functions API reference, `StartExecution`.
    async fn start(&self, message: &InternalMessage, start: u32) -> Result<Start, StageError> {
        let name = message.attempt().execution_name(start);
        let started = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .name(&name)
            .input(message.to_json())
            .send()
            .await;
        match started {
            Ok(started) => {
                let began = started.start_date().to_millis().ok().and_then(Timestamp::from_unix_ms);
                let now = SystemClock.now();
                Ok(if began.is_some_and(|began| now.since(began) > MAX_AGE_OF_NEW_EXECUTION) {
                    Start::Running
                } else {
                    Start::Started
                })
            }
            Err(SdkError::ServiceError(context))
                if matches!(context.err(), StartExecutionError::ExecutionAlreadyExists(_)) =>
            {
                Ok(Start::Ended)
            }
            Err(error) => {
                Err(stage_error(&error, ErrorName::WorkflowUnavailable, format!("start execution {name}")))
            }
        }
    }
}
