//! The double of the workflow.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    attempt::{Attempt, FIRST_START},
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{Start, Workflow},
};

use super::Store;

failing!(MemoryWorkflow);

/// A workflow that only records its starts. Like a `STANDARD` state machine, it recognizes names unless a test changes
/// that.
#[derive(Clone, Debug, Default)]
pub struct MemoryWorkflow(Arc<Store<State>>);

#[derive(Debug, Default)]
struct State {
    executions: BTreeMap<String, Execution>,
    forgets_names: bool,
    /// The number of starts under a name that was already used, counted while names are not recognized.
    repeated: usize,
}

#[derive(Debug)]
struct Execution {
    input: InternalMessage,
    has_ended: bool,
}

impl MemoryWorkflow {
    /// Makes the workflow ignore the names of executions, as an `EXPRESS` state machine does.
    pub fn forget_names(&self) {
        self.0.peek().forgets_names = true;
    }

    /// Returns the names of all executions.
    pub fn names(&self) -> Vec<String> {
        self.0.peek().executions.keys().cloned().collect()
    }

    /// Returns whether the first execution of this attempt was started.
    pub fn has_started(&self, attempt: Attempt) -> bool {
        self.0.peek().executions.contains_key(&attempt.execution_name(FIRST_START))
    }

    /// Returns the inputs of all executions.
    pub fn started(&self) -> Vec<InternalMessage> {
        self.0.peek().executions.values().map(|execution| execution.input.clone()).collect()
    }

    /// Returns the number of starts under a name that was already used.
    pub fn repeated(&self) -> usize {
        self.0.peek().repeated
    }

    /// Marks every execution as ended.
    pub fn end_all(&self) {
        self.0.peek().executions.values_mut().for_each(|execution| execution.has_ended = true);
    }
}

impl Workflow for MemoryWorkflow {
    fn recognizes_names(&self) -> bool {
        !self.0.peek().forgets_names
    }

    async fn start(&self, message: &InternalMessage, start: u32) -> Result<Start, StageError> {
        let mut state = self.0.open().await?;
        let name = message.attempt().execution_name(start);
        let known = state.executions.get(&name).map(|execution| execution.has_ended);
        match known {
            Some(_) if state.forgets_names => {
                state.repeated += 1;
                Ok(Start::Started)
            }
            Some(true) => Ok(Start::Ended),
            Some(false) => Ok(Start::Running),
            None => {
                let execution = Execution { input: message.clone(), has_ended: false };
                state.executions.insert(name, execution);
                Ok(Start::Started)
            }
        }
    }
}
