//! An event's bytes as Lambda sent them, past the runtime's own reading of them.
//!
//! The runtime hands a handler what serde makes of the event, which for an event of megabytes is a pass over it and a copy.
//! This layer keeps the bytes aside before that, and gives the runtime an empty event to read.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use lambda_runtime::{LambdaInvocation, Service, tower::Layer};

/// What the runtime reads instead.
const NULL: Bytes = Bytes::from_static(b"null");

/// The place where the bytes of the current event are kept aside. A function deals with one event at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct EventBytes(Rc<RefCell<Bytes>>);

impl EventBytes {
    /// The current event's bytes, once.
    pub(super) fn take(&self) -> Bytes {
        self.0.take()
    }
}

impl<S> Layer<S> for EventBytes {
    type Service = Aside<S>;

    fn layer(&self, inner: S) -> Aside<S> {
        Aside { bytes: self.clone(), inner }
    }
}

/// The runtime's service, which gets its events without their bytes.
#[derive(Clone, Debug)]
pub(super) struct Aside<S> {
    bytes: EventBytes,
    inner: S,
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for Aside<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> S::Future {
        self.bytes.0.replace(std::mem::replace(&mut invocation.body, NULL));
        self.inner.call(invocation)
    }
}
