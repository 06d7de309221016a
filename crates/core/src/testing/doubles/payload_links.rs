//! The double of links to payloads.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    message::{PayloadDescriptor, S3Reference},
    ports::{PayloadLink, PayloadLinks},
};

use super::Store;

failing!(MemoryPayloadLinks);

/// Links to objects in memory, which nobody can follow: `memory://<bucket>/<key>?<file name>`.
#[derive(Clone, Debug, Default)]
pub struct MemoryPayloadLinks(Arc<Store<()>>);

impl PayloadLinks for MemoryPayloadLinks {
    async fn link(
        &self,
        object: &S3Reference,
        _: &PayloadDescriptor,
        file_name: &str,
        now: Timestamp,
    ) -> Result<PayloadLink, StageError> {
        drop(self.0.open().await?);
        let url = format!("memory://{}/{}?{file_name}", object.bucket, object.key);
        Ok(PayloadLink { url, expires_at: now.after(Duration::from_mins(1)) })
    }
}
