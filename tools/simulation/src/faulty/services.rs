//! The ports of topic, queues, workflow and failure function, with faults.

use std::sync::Arc;

use custody_core::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    message::InternalMessage,
    notification::Notification,
    ports::{DeadLetters, FailureHandler, Notifier, Start, Workflow},
};

use super::{Faulty, FaultyQueue};
use crate::{faults::Service, platform, watch, workflow};

impl Notifier for Faulty {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        let notification = notification.clone();
        self.effect(Service::Topic, notification.event_type, move |world| async move {
            world.ledger().published(&notification);
            Ok(())
        })
        .await
    }
}

impl DeadLetters for FaultyQueue {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        let (letter, is_for_rejected) = (letter.clone(), self.is_for_rejected);
        self.ports
            .effect(Service::Queue, "send", move |world| async move {
                if is_for_rejected {
                    return world.stores.rejected_requests.send(&letter).await;
                }
                watch::note_dead_letter(&world, &letter);
                world.stores.dead_letters.send(&letter).await
            })
            .await
    }
}

impl Workflow for Faulty {
    fn recognizes_names(&self) -> bool {
        !self.world.setup.is_express
    }

    async fn start(&self, message: &InternalMessage, start: u32) -> Result<Start, StageError> {
        let message = message.clone();
        self.effect(Service::StepFunctions, "start", move |world| async move {
            Ok(workflow::start(&world, &message, start))
        })
        .await
    }
}

impl FailureHandler for Faulty {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        let failed = failed.clone();
        self.effect(Service::FailureFunction, "handle", move |world| async move {
            // The function continues even if its caller does not.
            let handled = platform::handle_failure(Arc::clone(&world), failed);
            world.scheduler.spawn_joined(handled).await.map_err(|failure| {
                let text = format!("{}: {}", failure.error_name(), failure.cause());
                StageError::new(ErrorName::FailureFunctionUnavailable, text)
            })
        })
        .await
    }
}
