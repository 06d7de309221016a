//! Queues of dead letters.

use std::future::Future;

use crate::{dead_letter::DeadLetter, error::StageError};

/// A queue of dead letters: the dead-letter queue, or the queue of rejected requests.
pub trait DeadLetters: Send + Sync {
    /// Sends a dead letter to the queue. Repeating the call sends it again; readers identify a dead letter by its
    /// record and attempt.
    fn send(&self, dead_letter: &DeadLetter) -> impl Future<Output = Result<(), StageError>> + Send;
}
