//! In-memory doubles of the ports. They implement the conditional writes of the real services, and a test can make each
//! of them fail.

/// Implements the method `fail_with` for doubles.
macro_rules! failing {
    ($($double:ident),*) => {
        $(impl $double {
            /// Makes every later call fail with this error. `None` makes calls succeed again.
            pub fn fail_with(&self, name: Option<ErrorName>) {
                self.0.fail_with(name);
            }
        })*
    };
}

mod access_entries;
mod archive;
mod failure;
mod markers;
mod notifier;
mod open_records;
mod payload_cache;
mod payload_links;
mod queues;
mod table;
mod uploads;
mod workflow;

use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use crate::error::{ErrorName, StageError};

pub use self::{
    access_entries::MemoryAccessEntries,
    archive::MemoryArchive,
    failure::{MemoryFailedStore, MemoryFailureHandler},
    markers::MemoryMarkers,
    notifier::MemoryNotifier,
    open_records::MemoryOpenRecords,
    payload_cache::MemoryPayloadCache,
    payload_links::MemoryPayloadLinks,
    queues::MemoryDeadLetters,
    table::{Item, MemoryTable},
    uploads::{MemoryStagingArea, MemoryUploads},
    workflow::MemoryWorkflow,
};

/// Yields once, so that other futures of the same task run first.
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

/// The shared state of a double, and the error with which its calls fail, if a test has set one.
#[derive(Debug, Default)]
struct Store<T> {
    state: Mutex<T>,
    failing: Mutex<Option<ErrorName>>,
}

impl<T> Store<T> {
    /// Locks the state for one effect, or fails if a test has set an error. It yields first: concurrent effects may
    /// take place before this one, as with a real store.
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
