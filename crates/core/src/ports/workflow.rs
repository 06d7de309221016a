//! The workflow.

use std::future::Future;

use crate::{error::StageError, message::InternalMessage};

/// The workflow that processes accepted records.
pub trait Workflow: Send + Sync {
    /// Whether the workflow recognizes an execution name that was used before (`STANDARD`), or makes a further
    /// execution under that name (`EXPRESS`).
    fn recognizes_names(&self) -> bool;

    /// Starts the execution with number `start` of the message's attempt.
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
