//! The queues of dead letters, in memory.

use crate::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    ports::DeadLetters,
};

use super::Store;

failing!(MemoryDeadLetters);

/// A queue of dead letters in memory.
#[derive(Debug, Default)]
pub struct MemoryDeadLetters(Store<Vec<DeadLetter>>);

impl MemoryDeadLetters {
    /// The messages on the queue.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.0.peek().clone()
    }

    /// Takes all messages off the queue.
    pub fn take(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut *self.0.peek())
    }
}

impl DeadLetters for &MemoryDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        self.0.open().await?.push(letter.clone());
        Ok(())
    }
}
