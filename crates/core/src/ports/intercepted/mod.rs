//! A decorator of every port: an interceptor decides when, and whether, each call has its effect.
//!
//! In production the interceptor is a time limit, in the simulation a plan of faults.
#![deny(clippy::missing_trait_methods)]

mod access;
mod payloads;
mod records;
mod services;
mod uploads;

use std::{fmt, future::Future};

use super::PortName;
use crate::{error::StageError, record_id::RecordId};

/// A port behind an interceptor. Each call clones the port and its arguments, which are small: payloads are shared, not
/// copied.
#[derive(Clone, Debug)]
pub struct Intercepted<P, I> {
    port: P,
    interceptor: I,
}

/// Decides when, and whether, the calls of a port have their effects.
pub trait Interceptor: Clone + Send + Sync + 'static {
    /// Makes `call`, whose effect is the future `effect`.
    ///
    /// The effect owns all that it needs. So it may continue after the caller got an error, like a request that is
    /// still in the network. If an interceptor drops the effect, it is unknown whether the store has seen the request.
    fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl Future<Output = Result<T, StageError>> + Send + 'static,
    ) -> impl Future<Output = Result<T, StageError>> + Send;
}

/// One call of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The port.
    pub port: PortName,
    /// The method of the port.
    pub operation: &'static str,
    /// The record that the call is about, if it is about one.
    pub record: Option<RecordId>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, operation, record } = self;
        write!(f, "{port} {operation}")?;
        record.map_or(Ok(()), |id| write!(f, " of record {id}"))
    }
}

impl<P, I> Intercepted<P, I> {
    /// Puts `port` behind `interceptor`.
    pub const fn new(port: P, interceptor: I) -> Self {
        Self { port, interceptor }
    }
}

impl<P: Clone, I: Interceptor> Intercepted<P, I> {
    async fn call<T, F>(
        &self,
        port: PortName,
        operation: &'static str,
        record: impl Into<Option<RecordId>> + Send,
        effect: impl FnOnce(P) -> F + Send,
    ) -> Result<T, StageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StageError>> + Send + 'static,
    {
        let call = Call { port, operation, record: record.into() };
        self.interceptor.call(call, effect(self.port.clone())).await
    }
}

#[cfg(test)]
mod tests;
