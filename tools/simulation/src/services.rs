//! The services of the simulation: workflow, failure function, queues and topic.

use std::sync::Arc;

use custody_core::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    message::InternalMessage,
    notification::Notification,
    ports::{DeadLetters, FailureHandler, Notifier, Start, Workflow},
};

use crate::{platform, watch, workflow, world::World};

/// Step Functions.
#[derive(Clone)]
pub(crate) struct SimulatedWorkflow(pub(crate) Arc<World>);

impl Workflow for SimulatedWorkflow {
    fn recognizes_names(&self) -> bool {
        !self.0.setup.is_express
    }

    async fn start(&self, message: &InternalMessage, start: u32) -> Result<Start, StageError> {
        Ok(workflow::start(&self.0, message, start))
    }
}

/// The failure function, which continues if its caller ends.
#[derive(Clone)]
pub(crate) struct SimulatedFailureFunction(pub(crate) Arc<World>);

impl FailureHandler for SimulatedFailureFunction {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        let handled = platform::handle_failure(Arc::clone(&self.0), failed.clone());
        self.0.scheduler.spawn_joined(handled).await.map_err(|failure| {
            let text = format!("{}: {}", failure.error_name(), failure.cause());
            StageError::new(ErrorName::FailureFunctionUnavailable, text)
        })
    }
}

/// A queue of SQS.
#[derive(Clone)]
pub(crate) enum SimulatedQueue {
    DeadLetters(Arc<World>),
    RejectedRequests(Arc<World>),
}

impl DeadLetters for SimulatedQueue {
    async fn send(&self, dead_letter: &DeadLetter) -> Result<(), StageError> {
        match self {
            Self::DeadLetters(world) => {
                watch::note_dead_letter(world, dead_letter);
                world.stores.dead_letters.send(dead_letter).await
            }
            Self::RejectedRequests(world) => world.stores.rejected_requests.send(dead_letter).await,
        }
    }
}

/// The notification topic.
#[derive(Clone)]
pub(crate) struct SimulatedTopic(pub(crate) Arc<World>);

impl Notifier for SimulatedTopic {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        self.0.ledger().published(notification);
        Ok(())
    }
}
