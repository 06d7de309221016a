//! Work after the response: a layer outside the one that posts the response to Lambda, so that it runs when the caller has
//! its answer, and before the next event is asked for.
//!
//! Lambda counts an invocation as running until the next event is asked for, and freezes nothing before. Source: AWS Lambda
//! developer guide, "Building a custom runtime" ("Clean up" follows "Return response" in the task loop), and the AWS Compute
//! Blog, "Running code after returning a response from an AWS Lambda function". The function's timeout covers both, so the
//! work ends before that.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use custody_core::clock::{Clock as _, Timestamp};
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use lambda_runtime::{LambdaInvocation, Service, tower::Layer};
use tracing::warn;

use crate::clock::SystemClock;

/// The time that is left unused before the function's timeout, for asking for the next event.
const RESERVE: Duration = Duration::from_millis(500);

/// The place where a handler leaves the work of the current event. A function deals with one event at a time.
#[derive(Debug)]
pub(super) struct Pending<W>(Rc<RefCell<Option<W>>>);

impl<W> Pending<W> {
    /// No work yet.
    pub(super) fn new() -> Self {
        Self(Rc::default())
    }

    /// Leaves work for after the response.
    pub(super) fn leave(&self, work: W) {
        self.0.replace(Some(work));
    }
}

impl<W> Clone for Pending<W> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

/// The layer that does the work.
pub(super) struct FollowUpLayer<'a, W, F> {
    pub(super) pending: Pending<W>,
    pub(super) work: &'a F,
}

impl<'a, S, W, F> Layer<S> for FollowUpLayer<'a, W, F> {
    type Service = FollowUpService<'a, S, W, F>;

    fn layer(&self, inner: S) -> Self::Service {
        FollowUpService { inner, pending: self.pending.clone(), work: self.work }
    }
}

/// The runtime's service, followed by the work that the handler has left.
pub(super) struct FollowUpService<'a, S, W, F> {
    inner: S,
    pending: Pending<W>,
    work: &'a F,
}

impl<'a, S, W, F> Service<LambdaInvocation> for FollowUpService<'a, S, W, F>
where
    S: Service<LambdaInvocation>,
    S::Future: 'a,
    S::Response: 'a,
    S::Error: 'a,
    W: 'a,
    F: AsyncFn(W),
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LocalBoxFuture<'a, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let deadline = i64::try_from(invocation.context.deadline).ok().and_then(Timestamp::from_unix_ms);
        let (pending, work) = (self.pending.clone(), self.work);
        let responded = self.inner.call(invocation);
        async move {
            // Also where the response could not be posted: what was accepted is accepted.
            let posted = responded.await;
            let left = pending.0.take();
            if let Some(left) = left {
                let time = time_left(deadline, SystemClock.now());
                if tokio::time::timeout(time, work(left)).await.is_err() {
                    warn!("the work after the response took too long; what it left is for reconcile");
                }
            }
            posted
        }
        .boxed_local()
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
