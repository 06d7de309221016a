//! Queues of dead letters.

use std::future::Future;

use crate::{dead_letter::DeadLetter, error::StageError};

/// A queue of dead letters: the dead-letter queue, or the queue of rejected requests.
pub trait DeadLetters: Send + Sync {
    /// Sends a dead letter to the queue. A repeated call sends a second copy; readers recognize copies by record and
    /// attempt. `Err`: the dead letter may or may not be sent. (A request has no record: its copies are recognized by
    /// the request id.)
    fn send(&self, dead_letter: &DeadLetter) -> impl Future<Output = Result<(), StageError>> + Send;
}
