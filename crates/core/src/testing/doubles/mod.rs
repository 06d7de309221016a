//! In-memory doubles. They model the conditional semantics of the real services, and each can be told to fail.

/// Gives doubles the method that makes them fail.
macro_rules! failing {
    ($($double:ident),*) => {
        $(impl $double {
            /// Every call fails with this error from now on; `None` ends that.
            pub fn fail_with(&self, name: Option<ErrorName>) {
                self.0.fail_with(name);
            }
        })*
    };
}

mod archive;
mod failure;
mod markers;
mod notifier;
mod open_records;
mod payload_cache;
mod queues;
mod table;
mod workflow;

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use crate::error::{ErrorName, StageError};

pub use self::{
    archive::MemoryArchive,
    failure::{MemoryFailedStore, MemoryFailureHandler},
    markers::MemoryMarkers,
    notifier::MemoryNotifier,
    open_records::MemoryOpenRecords,
    payload_cache::MemoryPayloadCache,
    queues::MemoryDeadLetters,
    table::{Item, MemoryTable},
    workflow::MemoryWorkflow,
};

/// Lets other futures of the same task go on first.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Shared state of a double, and the failure it was told to have.
#[derive(Debug, Default)]
struct Store<T> {
    state: Mutex<T>,
    failing: Mutex<Option<ErrorName>>,
}

impl<T> Store<T> {
    /// The state, for one effect. Others that run at the same time have their effects before it, as with a real store.
    async fn open(&self) -> Result<MutexGuard<'_, T>, StageError> {
        yield_once().await;
        if let Some(name) = *self.failing.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(StageError::new(name, "use a double that was told to fail"));
        }
        Ok(self.peek())
    }

    fn peek(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail_with(&self, name: Option<ErrorName>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}
