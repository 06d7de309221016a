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

/// The two kinds of state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowType {
    /// An execution is started once under a name, and is remembered for 90 days.
    Standard,
    /// A start is an execution, whatever its name, which may run twice and is cut off after five minutes.
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

/// The state machine.
#[derive(Clone, Debug)]
pub struct StateMachine {
    client: Client,
    arn: String,
    workflow_type: WorkflowType,
}

/// An execution that began longer ago than this was not begun by the call that names it. It tells the two apart in
/// reports only, so the clocks need not agree any better.
const JUST_NOW: Duration = Duration::from_mins(1);

impl StateMachine {
    /// The state machine with this ARN, of this type.
    pub fn new(client: Client, arn: String, workflow_type: WorkflowType) -> Self {
        Self { client, arn, workflow_type }
    }

    /// The ARN of an execution of a `STANDARD` state machine.
    pub fn execution_arn(&self, attempt: Attempt, start: u32) -> String {
        let name = attempt.execution_name(start);
        format!("{}:{name}", self.arn.replace(":stateMachine:", ":execution:"))
    }
}

impl Workflow for StateMachine {
    fn recognizes_names(&self) -> bool {
        self.workflow_type == WorkflowType::Standard
    }

    /// The execution is named after attempt and start. Step Functions answers a start of an execution under way, with the
    /// same input, as it did the first, and refuses one that has ended. Source: AWS Step Functions API reference,
    /// `StartExecution`.
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
                Ok(if began.is_some_and(|began| now.since(began) > JUST_NOW) {
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
