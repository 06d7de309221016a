//! Processes: a function's invocation ends with an answer, with its time, or with its process.

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

/// What a process is there for, as far as it matters to what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Answers producers.
    Ingest,
    /// Does a step of the workflow.
    Stage,
    /// The workflow itself: a service that calls other services, and no process that could die.
    Workflow,
    /// Does what is owed.
    Reconcile,
    /// Redrives the dead letter of this attempt, perhaps because a person insists.
    Redrive {
        /// The attempt that the dead letter tells of.
        failed: Attempt,
        /// Whether a person insists.
        forced: bool,
    },
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<State>);

#[derive(Debug)]
struct State {
    role: Role,
    is_dead: AtomicBool,
    /// Whether a producer waits for what the process does.
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

    /// When the current invocation began.
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

    /// Ends the process. Whoever calls does not live to see it.
    pub(crate) async fn die<T>(&self) -> T {
        self.0.is_dead.store(true, Ordering::Relaxed);
        std::future::pending().await
    }
}

/// Why an invocation had no answer.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// The stage gave this name and cause.
    Stage(&'static str, String),
    /// The platform did not invoke the function, under this name.
    Platform(&'static str),
    /// The process ended.
    Exit,
    /// The time was up.
    TimedOut,
}

impl Failed {
    /// The name under which Step Functions sees it.
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
            Self::TimedOut => "the time was up".to_owned(),
        }
    }
}

impl From<StageError> for Failed {
    fn from(error: StageError) -> Self {
        Self::Stage(error.name.as_str(), error.to_string())
    }
}

/// Runs `work` in a process, until it ends, the process dies, or the time is up, which ends the process as well.
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
