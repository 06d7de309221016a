//! The double of the notification topic.

use std::sync::Arc;

use crate::{
    error::{ErrorName, StageError},
    notification::Notification,
    ports::Notifier,
};

use super::Store;

failing!(MemoryNotifier);

/// A notification topic in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryNotifier(Arc<Store<Vec<Notification>>>);

impl MemoryNotifier {
    /// Returns the published notifications.
    pub fn published(&self) -> Vec<Notification> {
        self.0.peek().clone()
    }
}

impl Notifier for MemoryNotifier {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        self.0.open().await?.push(notification.clone());
        Ok(())
    }
}
