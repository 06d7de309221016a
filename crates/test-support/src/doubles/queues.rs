//! The queues of dead letters, in memory.

use std::time::Duration;

use custody_core::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    ports::{DeadLetters, Redrives},
};

use super::Store;

failing!(MemoryDeadLetters, MemoryRedrives);

/// A dead-letter queue in memory.
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
        self.0.open()?.push(letter.clone());
        Ok(())
    }
}

/// A redrive queue in memory.
#[derive(Debug, Default)]
pub struct MemoryRedrives(Store<Vec<(DeadLetter, Duration)>>);

impl MemoryRedrives {
    /// Takes all letters off the queue.
    pub fn take(&self) -> Vec<(DeadLetter, Duration)> {
        std::mem::take(&mut *self.0.peek())
    }

    /// The letters on the queue, each with its delay.
    pub fn scheduled(&self) -> Vec<(DeadLetter, Duration)> {
        self.0.peek().clone()
    }
}

impl Redrives for &MemoryRedrives {
    async fn schedule(&self, letter: &DeadLetter, delay: Duration) -> Result<(), StageError> {
        self.0.open()?.push((letter.clone(), delay));
        Ok(())
    }
}
