//! Presigned links to payloads in S3.

use std::time::Duration;

use aws_sdk_s3::Client;
use custody_core::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    message::{PayloadDescriptor, S3Reference},
    ports::{PayloadLink, PayloadLinks},
};

use crate::{classify::stage_error, values::link_signing};

/// The time for which a link works. S3 checks it when a download begins.
const LIFETIME: Duration = Duration::from_mins(1);

/// Links to objects in S3, signed with the credentials of the function.
#[derive(Clone, Debug)]
pub struct S3PayloadLinks {
    client: Client,
}

impl S3PayloadLinks {
    /// Creates the maker of links.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl PayloadLinks for S3PayloadLinks {
    async fn link(
        &self,
        object: &S3Reference,
        payload: &PayloadDescriptor,
        file_name: &str,
        now: Timestamp,
    ) -> Result<PayloadLink, StageError> {
        let operation = || format!("sign a link to object {}", object.key);
        let signing = link_signing(now, LIFETIME)
            .map_err(|error| StageError::new(ErrorName::ServiceRefused, operation()).caused_by(error))?;
        let signed = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            // Object Lock keeps the first version for good, but only its name without a version is stored.
            .response_content_type(&payload.content_type)
            // `attachment` keeps a browser from displaying what a producer has sent.
            .response_content_disposition(format!("attachment; filename=\"{file_name}\""))
            .response_cache_control("no-store")
            .presigned(signing)
            .await
            .map_err(|error| stage_error(&error, ErrorName::ArchiveUnavailable, operation()))?;
        Ok(PayloadLink { url: signed.uri().to_owned(), expires_at: now.after(LIFETIME) })
    }
}
