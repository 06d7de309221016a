//! What belongs to one invocation: the bytes of its event, past the runtime's own reading of them, and the work that is left for
//! after its response. A function may have several invocations under way at once.
//!
//! The runtime hands a handler what serde makes of an event, which for an event of megabytes is a pass over it and a copy. This
//! layer keeps the bytes aside before that, and gives the runtime an empty event to read. It is outside the layer that posts the
//! response to Lambda, so the work that it does afterwards runs when the caller has its answer, and before the next event is
//! asked for.
//!
//! Lambda counts an invocation as running until the next event is asked for, and freezes nothing before. Source: AWS Lambda
//! developer guide, "Building a custom runtime" ("Clean up" follows "Return response" in the task loop), and the AWS Compute
//! Blog, "Running code after returning a response from an AWS Lambda function". The function's timeout covers both, so the
//! work ends before that.

use std::{
    cell::RefCell,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use custody_core::clock::{Clock as _, SystemClock, Timestamp};
use futures_util::{FutureExt as _, future::BoxFuture};
use lambda_runtime::{Error, LambdaInvocation, Service, tower::Layer};
use tracing::{error, warn};

/// What the runtime reads instead of the event.
const NULL: Bytes = Bytes::from_static(b"null");

/// The time that is left unused before the function's timeout, for asking for the next event.
const RESERVE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Invocation {
    event: Bytes,
    follow_up: Option<BoxFuture<'static, ()>>,
}

tokio::task_local! {
    /// The invocation that the current task deals with.
    static CURRENT: RefCell<Invocation>;
}

/// The current event's bytes, once.
pub(super) fn take_event() -> Bytes {
    CURRENT.with(|current| std::mem::take(&mut current.borrow_mut().event))
}

/// Leaves work for after the current response.
pub(super) fn leave(follow_up: BoxFuture<'static, ()>) {
    CURRENT.with(|current| current.borrow_mut().follow_up = Some(follow_up));
}

/// The layer that keeps an event's bytes aside and does the work after the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvocationLayer;

impl<S> Layer<S> for InvocationLayer {
    type Service = InvocationService<S>;

    fn layer(&self, inner: S) -> InvocationService<S> {
        InvocationService(inner)
    }
}

/// The runtime's service, which gets its events without their bytes and is followed by the work that the handler has left.
#[derive(Clone, Debug)]
pub(super) struct InvocationService<S>(S);

impl<S> Service<LambdaInvocation> for InvocationService<S>
where
    S: Service<LambdaInvocation, Response = (), Error = Error>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = BoxFuture<'static, Result<(), Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> Self::Future {
        let deadline = i64::try_from(invocation.context.deadline).ok().and_then(Timestamp::from_unix_ms);
        let event = std::mem::replace(&mut invocation.body, NULL);
        let responded = self.0.call(invocation);
        let whole = async move {
            // An error here would end the place in which the process waits for events, one of several, for good. Where the Runtime
            // API is away, asking it for the next event fails, too.
            if let Err(error) = responded.await {
                error!(%error, "could not post a response");
            }
            // Also where the response could not be posted: what was accepted is accepted.
            if let Some(work) = CURRENT.with(|current| current.borrow_mut().follow_up.take()) {
                let time = time_left(deadline, SystemClock.now());
                match AssertUnwindSafe(tokio::time::timeout(time, work)).catch_unwind().await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => {
                        warn!("the work after the response took too long; what it left is for reconcile");
                    }
                    Err(_) => error!("the work after the response panicked; what it left is for reconcile"),
                }
            }
            Ok(())
        };
        CURRENT.scope(RefCell::new(Invocation { event, follow_up: None }), whole).boxed()
    }
}

/// The time until the function's timeout, less the reserve.
fn time_left(deadline: Option<Timestamp>, now: Timestamp) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.since(now)).saturating_sub(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_ends_before_the_functions_timeout() {
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        assert_eq!(time_left(Some(at(26_000)), at(1000)), Duration::from_millis(24_500));
        assert_eq!(time_left(Some(at(26_000)), at(25_900)), Duration::ZERO);
        assert_eq!(time_left(Some(at(26_000)), at(27_000)), Duration::ZERO);
    }
}
