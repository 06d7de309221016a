//! The failure function.

use std::future::Future;

use crate::{
    error::StageError,
    failed_record::{FailedRecord, FailureReceipt},
};

/// The failure function, as reconcile invokes it.
pub trait FailureHandler: Send + Sync {
    /// Invokes the failure function for a record and waits for its result. `Err`: the function may not have run, may
    /// have run in part, or may still be running; the call may be repeated.
    fn handle(
        &self,
        failed: &FailedRecord,
    ) -> impl Future<Output = Result<FailureReceipt, StageError>> + Send;
}
