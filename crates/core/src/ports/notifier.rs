//! The notification topic.

use std::future::Future;

use crate::{error::StageError, notification::Notification};

/// The notification topic.
pub trait Notifier: Send + Sync {
    /// Publishes a notification. Repeating the call publishes it again with the same CloudEvents id. `Err`: the
    /// notification may or may not be published.
    fn publish(&self, notification: &Notification) -> impl Future<Output = Result<(), StageError>> + Send;
}
