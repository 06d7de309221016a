//! Simulates the processes of functions. An invocation ends when the function answers, when its time limit is over, or
//! when its process dies.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use custody_core::{attempt::Attempt, error::StageError};
use futures_util::future::poll_fn;

use crate::scheduler::Scheduler;

/// The role of a process, on which the effects depend that the process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Ingest, which answers producers.
    Ingest,
    /// The function of a stage, which does a step of the workflow.
    Stage,
    /// The workflow service itself, which calls other services. It is not a process that can die.
    Workflow,
    /// Reconcile, which does the pending work of open records.
    Reconcile,
    /// Redrive, which redrives a dead letter.
    Redrive {
        /// The attempt that the dead letter reports.
        failed: Attempt,
        /// Whether a person forces the redrive.
        forced: bool,
    },
}

/// A simulated process. Clones are the same process.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<State>);

#[derive(Debug)]
struct State {
    role: Role,
    is_dead: AtomicBool,
    /// Whether a producer waits for the process's answer.
    is_answering: AtomicBool,
    began_ms: AtomicI64,
}

impl Process {
    pub(crate) fn new(role: Role, now_ms: i64) -> Self {
        Self(Arc::new(State {
            role,
            is_dead: AtomicBool::new(false),
            is_answering: AtomicBool::new(false),
            began_ms: AtomicI64::new(now_ms),
        }))
    }

    pub(crate) fn role(&self) -> Role {
        self.0.role
    }

    /// Begins another invocation.
    pub(crate) fn begin(&self, now_ms: i64) {
        self.0.began_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Returns the time at which the current invocation began.
    pub(crate) fn began_ms(&self) -> i64 {
        self.0.began_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_answering(&self, answering: bool) {
        self.0.is_answering.store(answering, Ordering::Relaxed);
    }

    pub(crate) fn is_answering(&self) -> bool {
        self.0.is_answering.load(Ordering::Relaxed)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.is_dead.load(Ordering::Relaxed)
    }

    /// Ends the process. The returned future never completes, so the caller does not continue.
    pub(crate) async fn die<T>(&self) -> T {
        self.0.is_dead.store(true, Ordering::Relaxed);
        std::future::pending().await
    }
}

/// The reason why an invocation had no result.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// The stage returned an error with this name and this cause.
    Stage(&'static str, String),
    /// The platform did not invoke the function, and returned this error name.
    Platform(&'static str),
    /// The process ended.
    Exit,
    /// The time limit was over.
    TimedOut,
}

impl Failed {
    /// Returns the error name that Step Functions receives.
    pub(crate) fn error_name(&self) -> &'static str {
        match self {
            Self::Stage(name, _) | Self::Platform(name) => name,
            Self::Exit => "Runtime.ExitError",
            Self::TimedOut => "Sandbox.Timedout",
        }
    }

    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Stage(_, cause) => cause.clone(),
            Self::Platform(_) => "the function was not invoked".to_owned(),
            Self::Exit => "the process ended".to_owned(),
            Self::TimedOut => "the time limit was over".to_owned(),
        }
    }
}

impl From<StageError> for Failed {
    fn from(error: StageError) -> Self {
        Self::Stage(error.name.as_str(), error.to_string())
    }
}

/// Runs `work` in a process until `work` completes, the process dies, or the time limit is over. In the latter cases,
/// `work` is abandoned.
pub(crate) async fn invoke<T>(
    scheduler: &Scheduler,
    process: Process,
    limit: Duration,
    work: impl Future<Output = Result<T, StageError>>,
) -> Result<T, Failed> {
    let mut work = pin!(work);
    let mut limit = pin!(scheduler.sleep(limit));
    poll_fn(|context| {
        if let Poll::Ready(answer) = work.as_mut().poll(context) {
            return Poll::Ready(answer.map_err(Failed::from));
        }
        if process.is_dead() {
            return Poll::Ready(Err(Failed::Exit));
        }
        limit.as_mut().poll(context).map(|()| Err(Failed::TimedOut))
    })
    .await
}
