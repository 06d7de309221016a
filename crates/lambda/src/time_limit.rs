//! Ports with a time limit for each call.
//!
//! An API Gateway request ends after 29 seconds, whatever its stores do. Therefore each port of a function gets a share
//! of that time. If a store hangs, enough time is left to call the next store and to answer. A call that reached its
//! time limit may have had its effect, or may still have it later, as with any lost reply.

use std::{future::Future, time::Duration};

use custody_core::{
    error::StageError,
    ports::intercepted::{Call, Intercepted, Interceptor},
};

/// A port whose calls end after a time limit.
pub type Limited<P> = Intercepted<P, TimeLimit>;

/// Ends every call of a port after this time, with the error that the port is not available.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit(Duration);

impl Interceptor for TimeLimit {
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl Future<Output = Result<T, StageError>> + Send + 'static,
    ) -> Result<T, StageError> {
        tokio::time::timeout(self.0, effect).await.unwrap_or_else(|_| {
            let operation = format!("{call}: no answer within {} ms", self.0.as_millis());
            Err(StageError::new(call.port.unavailable(), operation))
        })
    }
}

/// Gives each call of `port` this time limit.
pub const fn limited<P>(port: P, limit: Duration) -> Limited<P> {
    Intercepted::new(port, TimeLimit(limit))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use custody_core::{
        error::ErrorName,
        message::InternalMessage,
        ports::{Start, Workflow},
        testing::samples,
    };

    use super::*;

    #[derive(Clone)]
    struct Hanging;

    impl Workflow for Hanging {
        fn recognizes_names(&self) -> bool {
            true
        }

        async fn start(&self, _: &InternalMessage, _: u32) -> Result<Start, StageError> {
            pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_hangs_is_unavailable() {
        let workflow = limited(Hanging, Duration::from_secs(3));
        let message = samples::message(b"payload");
        let error = workflow.start(&message, 1).await.unwrap_err();
        assert_eq!(error.name, ErrorName::WorkflowUnavailable);
        let text = format!("workflow start of record {}: no answer within 3000 ms", message.message_id);
        assert_eq!(error.to_string(), text);
    }
}
