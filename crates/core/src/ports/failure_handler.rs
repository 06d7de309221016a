//! The failure function.

use std::future::Future;

use crate::{
    error::StageError,
    failed_record::{FailedRecord, FailureReceipt},
};

/// The failure function, as reconcile invokes it.
pub trait FailureHandler: Send + Sync {
    /// Invokes the failure function for a record.
    fn handle(
        &self,
        failed: &FailedRecord,
    ) -> impl Future<Output = Result<FailureReceipt, StageError>> + Send;
}
