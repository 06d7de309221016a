//! Links to stored payloads.

use std::future::Future;

use crate::{
    clock::Timestamp,
    error::StageError,
    message::{PayloadDescriptor, S3Reference},
};

/// A link with which anybody can read one object, for a short time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadLink {
    pub url: String,
    /// When the link stops to work.
    pub expires_at: Timestamp,
}

/// Makes links to objects in the archive and in the failed bucket.
pub trait PayloadLinks: Send + Sync {
    /// Makes a link to an object. A browser that follows the link saves the payload under `file_name`, with the payload's
    /// media type, and displays nothing. The object is not read; the link of a missing object leads to an error of S3.
    fn link(
        &self,
        object: &S3Reference,
        payload: &PayloadDescriptor,
        file_name: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<PayloadLink, StageError>> + Send;
}
