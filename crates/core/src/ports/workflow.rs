//! The workflow.

use std::future::Future;

use crate::{error::StageError, message::InternalMessage};

/// The workflow that processes accepted records.
pub trait Workflow: Send + Sync {
    /// Returns whether a second start under one name is recognized (`STANDARD`). If not (`EXPRESS`), it makes a second
    /// execution.
    fn recognizes_names(&self) -> bool;

    /// Starts the execution with number `start` of the message's attempt. `Err`: the execution may or may not have
    /// started.
    fn start(
        &self,
        message: &InternalMessage,
        start: u32,
    ) -> impl Future<Output = Result<Start, StageError>> + Send;
}

/// The result of [`Workflow::start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// No execution had this name; the call started one.
    Started,
    /// An execution with this name is running.
    Running,
    /// An execution with this name has ended.
    Ended,
}
