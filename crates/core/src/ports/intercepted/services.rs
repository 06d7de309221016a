//! The services, intercepted: workflow, failure function, queues and notifications.

use super::{Intercepted, Interceptor};
use crate::{
    dead_letter::DeadLetter,
    error::StageError,
    failed_record::{FailedRecord, FailureReceipt},
    message::InternalMessage,
    notification::Notification,
    ports::{
        DeadLetters, FailureHandler, Notifier,
        PortName::{
            DeadLetters as Queue, FailureHandler as Function, Notifier as Topic, Workflow as StateMachine,
        },
        Start, Workflow,
    },
};

impl<P: Workflow + Clone + 'static, I: Interceptor> Workflow for Intercepted<P, I> {
    fn recognizes_names(&self) -> bool {
        self.port.recognizes_names()
    }

    async fn start(&self, message: &InternalMessage, start: u32) -> Result<Start, StageError> {
        let (id, message) = (message.message_id, message.clone());
        self.call(StateMachine, "start", id, |port| async move { port.start(&message, start).await }).await
    }
}

impl<P: FailureHandler + Clone + 'static, I: Interceptor> FailureHandler for Intercepted<P, I> {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        let (id, failed) = (failed.message.message_id, failed.clone());
        self.call(Function, "handle", id, |port| async move { port.handle(&failed).await }).await
    }
}

impl<P: DeadLetters + Clone + 'static, I: Interceptor> DeadLetters for Intercepted<P, I> {
    async fn send(&self, dead_letter: &DeadLetter) -> Result<(), StageError> {
        let (id, dead_letter) = (dead_letter.message_id, dead_letter.clone());
        self.call(Queue, "send", id, |port| async move { port.send(&dead_letter).await }).await
    }
}

impl<P: Notifier + Clone + 'static, I: Interceptor> Notifier for Intercepted<P, I> {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        let notification = notification.clone();
        self.call(Topic, "publish", None, |port| async move { port.publish(&notification).await }).await
    }
}
