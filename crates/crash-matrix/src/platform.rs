//! Lambda as the stages see it: an invocation ends with an answer, with its time, or with its process; and a workflow
//! tries again where trying again is worthwhile.

use std::{future::Future, sync::Arc, time::Duration};

use custody_core::error::{ErrorName, StageError, TRANSIENT_PLATFORM_ERRORS};
use tokio::sync::Notify;

/// One invocation of a function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Invocation(Arc<Notify>);

impl Invocation {
    /// Ends the process. Whoever calls does not live to see it.
    pub(crate) async fn die<T>(&self) -> T {
        self.0.notify_one();
        std::future::pending().await
    }
}

/// Why an invocation had no answer.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// The stage said why.
    Stage(&'static str, String),
    /// The process ended.
    Exit,
    /// The time was up.
    TimedOut,
}

impl Failed {
    /// The name under which Step Functions sees it.
    pub(crate) fn error_name(&self) -> &'static str {
        match self {
            Self::Stage(name, _) => name,
            Self::Exit => "Runtime.ExitError",
            Self::TimedOut => "States.Timeout",
        }
    }

    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Stage(_, cause) => cause.clone(),
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

/// Runs a function once.
pub(crate) async fn invoke<T, F>(limit: Duration, function: impl FnOnce(Invocation) -> F) -> Result<T, Failed>
where
    F: Future<Output = Result<T, StageError>>,
{
    let invocation = Invocation::default();
    tokio::select! {
        biased;
        () = invocation.0.notified() => Err(Failed::Exit),
        answer = tokio::time::timeout(limit, function(invocation.clone())) => match answer {
            Ok(answer) => answer.map_err(Failed::from),
            Err(_) => Err(Failed::TimedOut),
        },
    }
}

/// A task of the state machine: its errors that are worth another try, and how many of those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    pub(crate) transient: &'static [ErrorName],
    pub(crate) max_attempts: u32,
    pub(crate) max_delay: Duration,
}

impl Retries {
    /// Tries until it works, fails for good, or was tried often enough.
    pub(crate) async fn run<T>(
        &self,
        mut task: impl AsyncFnMut() -> Result<T, Failed>,
    ) -> Result<T, (Failed, u32)> {
        let mut tries = 0;
        loop {
            let failed = match task().await {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            tries += 1;
            let name = failed.error_name();
            let worthwhile = self.transient.iter().any(|n| n.as_str() == name)
                || TRANSIENT_PLATFORM_ERRORS.contains(&name);
            if !worthwhile || tries > self.max_attempts {
                return Err((failed, tries));
            }
            // Full jitter ends anywhere; half of it is as good as any here.
            tokio::time::sleep(Duration::from_millis(500 << tries.min(8)).min(self.max_delay)).await;
        }
    }
}
