//! The state of one invocation: the bytes of its event, which bypass the runtime's own parsing, and the work that the
//! handler leaves for the time after the response. A function may have several invocations in progress at once.
//!
//! The runtime parses each event with serde before it calls the handler. For an event of several megabytes this costs
//! one pass over the event and one copy. The layer in this module stores the bytes first and gives the runtime an empty
//! event to parse. The layer wraps the layer that posts the response to Lambda. Therefore the work after the response
//! runs when the caller has its answer, and before the process requests the next event.
//!
//! Lambda counts an invocation as running until the process requests the next event, and does not freeze the process
//! before that. Source: AWS Lambda developer guide, "Building a custom runtime" ("Clean up" follows "Return response"
//! in the task loop), and the AWS Compute Blog, "Running code after returning a response from an AWS Lambda function".
//! The function's timeout covers the response and the work after it, so the work is stopped before that timeout.

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
use tracing::{Instrument as _, error, error_span, warn};

use crate::spans::{self, Trace};

/// The JSON that the runtime parses instead of the event.
const EMPTY_EVENT: Bytes = Bytes::from_static(b"null");

/// The time that is left before the function's timeout for the request of the next event.
const RESERVE: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Invocation {
    event: Bytes,
    follow_up: Option<BoxFuture<'static, ()>>,
    /// The span of the invocation, if its trace is sampled.
    span: Option<spans::Invocation>,
}

tokio::task_local! {
    /// The invocation that the current task handles.
    static CURRENT: RefCell<Invocation>;
}

/// Takes the bytes of the current event. A second call returns no bytes.
pub(super) fn take_event() -> Bytes {
    CURRENT.with(|current| std::mem::take(&mut current.borrow_mut().event))
}

/// Stores the work to do after the response of the current invocation.
pub(super) fn set_follow_up(follow_up: BoxFuture<'static, ()>) {
    CURRENT.with(|current| current.borrow_mut().follow_up = Some(follow_up));
}

/// Notes in the span of the current invocation that the stage has failed.
pub(super) fn set_error(error_name: &str) {
    // Tests of the stages' errors have no invocation.
    CURRENT
        .try_with(|current| {
            if let Some(span) = &mut current.borrow_mut().span {
                span.fail(error_name);
            }
        })
        .ok();
}

/// The layer that stores an event's bytes before they are parsed, and does the work after the response.
#[derive(Clone, Copy, Debug)]
pub(super) struct InvocationLayer;

impl<S> Layer<S> for InvocationLayer {
    type Service = InvocationService<S>;

    fn layer(&self, inner: S) -> InvocationService<S> {
        InvocationService(inner)
    }
}

/// A wrapper of the runtime's service. It hides the event's bytes from the runtime, and runs the work that the handler
/// has left after the response.
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
        let trace = Trace::of(invocation.context.xray_trace_id.as_deref());
        let request = invocation.context.request_id.clone();
        // Every log line of the invocation has these ids. The level is that of errors, so that no level of the logs leaves them out.
        let ids = error_span!(target: "custody_lambda", "invocation", invocation.id = request, trace.id = trace.root);
        let span = spans::Invocation::begin(&trace, &request);
        let event = std::mem::replace(&mut invocation.body, EMPTY_EVENT);
        let responded = self.0.call(invocation);
        let whole = async move {
            // The error is logged, not returned. A returned error would permanently end this event loop, which is one
            // of several in the process. If the Runtime API is unavailable, the request for the next event fails too.
            if let Err(error) = responded.await {
                error!(%error, "could not post a response");
            }
            CURRENT.with(|current| current.borrow_mut().span.iter_mut().for_each(spans::Invocation::respond));
            // The work is also done if the response could not be posted: an accepted record stays accepted.
            if let Some(work) = CURRENT.with(|current| current.borrow_mut().follow_up.take()) {
                let time = time_left(deadline, SystemClock.now());
                match AssertUnwindSafe(tokio::time::timeout(time, work)).catch_unwind().await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => {
                        warn!("the work after the response took too long; reconcile will do the rest");
                    }
                    Err(_) => error!("the work after the response panicked; reconcile will do the rest"),
                }
            }
            if let Some(span) = CURRENT.with(|current| current.borrow_mut().span.take()) {
                span.end();
            }
            Ok(())
        };
        CURRENT
            .scope(RefCell::new(Invocation { event, follow_up: None, span }), whole)
            .instrument(ids)
            .boxed()
    }
}

/// Returns the time until the function's timeout, minus [`RESERVE`].
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
