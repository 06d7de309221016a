//! A workflow that runs nothing.

use std::collections::BTreeMap;

use custody_core::{
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{Outcome, Start, Workflow},
    run::Run,
};

use super::Store;

failing!(MemoryWorkflow);

/// A workflow that only notes what was started, and says of it what it was told to.
#[derive(Debug, Default)]
pub struct MemoryWorkflow(Store<WorkflowState>);

#[derive(Debug, Default)]
struct WorkflowState {
    started: BTreeMap<Run, InternalMessage>,
    outcomes: BTreeMap<Run, Outcome>,
    questions: usize,
}

impl MemoryWorkflow {
    /// The inputs of all executions.
    pub fn started(&self) -> Vec<InternalMessage> {
        self.0.peek().started.values().cloned().collect()
    }

    /// Lets the execution of a run come to this.
    pub fn end(&self, run: Run, outcome: Outcome) {
        self.0.peek().outcomes.insert(run, outcome);
    }

    /// How many times an outcome was asked for.
    pub fn questions(&self) -> usize {
        self.0.peek().questions
    }
}

impl Workflow for &MemoryWorkflow {
    async fn start(&self, message: &InternalMessage) -> Result<Start, StageError> {
        let mut state = self.0.open()?;
        if state.started.contains_key(&message.run()) {
            return Ok(Start::Existed);
        }
        state.started.insert(message.run(), message.clone());
        Ok(Start::Started)
    }

    async fn outcome(&self, run: Run) -> Result<Option<Outcome>, StageError> {
        let mut state = self.0.open()?;
        state.questions += 1;
        let known = state.outcomes.get(&run).cloned();
        Ok(state.started.contains_key(&run).then(|| known.unwrap_or(Outcome::Running)))
    }
}
