//! The double of the queues of dead letters.

use std::sync::Arc;

use crate::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    ports::DeadLetters,
};

use super::Store;

failing!(MemoryDeadLetters);

/// A queue of dead letters in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters(Arc<Store<Vec<DeadLetter>>>);

impl MemoryDeadLetters {
    /// Returns the dead letters on the queue.
    pub fn all(&self) -> Vec<DeadLetter> {
        self.0.peek().clone()
    }

    /// Removes all dead letters from the queue and returns them.
    pub fn take(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut *self.0.peek())
    }
}

impl DeadLetters for MemoryDeadLetters {
    async fn send(&self, dead_letter: &DeadLetter) -> Result<(), StageError> {
        self.0.open().await?.push(dead_letter.clone());
        Ok(())
    }
}
