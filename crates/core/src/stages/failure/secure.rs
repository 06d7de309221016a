//! The payload of a failed record: found, or copied to where it is preserved.

use super::Failure;
use crate::{
    digest::Sha256,
    error::{ErrorKind, StageError},
    message::{InternalMessage, S3Reference},
    ports::{Deployment, FailedStore as _, PayloadCache as _},
    stages::archive,
};

/// Where a failed record's payload is.
#[derive(Debug)]
pub(super) enum Secured {
    /// In the archive.
    Archived(S3Reference),
    /// In the failed bucket.
    Preserved(S3Reference),
    /// In the failed bucket, with other bytes than the receipt promised. A person may want to see them.
    Corrupted(S3Reference),
    /// In none of the stores, each of which has answered.
    Nowhere,
}

impl Secured {
    pub(super) fn archived(&self) -> Option<&S3Reference> {
        match self {
            Self::Archived(reference) => Some(reference),
            Self::Preserved(_) | Self::Corrupted(_) | Self::Nowhere => None,
        }
    }

    pub(super) fn reference(&self) -> Option<&S3Reference> {
        match self {
            Self::Archived(reference) | Self::Preserved(reference) | Self::Corrupted(reference) => {
                Some(reference)
            }
            Self::Nowhere => None,
        }
    }
}

impl<D: Deployment> Failure<D> {
    /// Finds the payload in archive or failed bucket, or copies it from the cache to the failed bucket.
    ///
    /// `Nowhere` is said only after the cache, the failed bucket and, last, the archive have each answered that they do not
    /// have it: payloads move in that direction. A store that cannot be asked is an error as long as no other one has it.
    pub(super) async fn secure_payload(&self, message: &InternalMessage) -> Result<Secured, StageError> {
        let id = message.message_id;
        // Asked first to spare a copy: ingest, or an archive stage whose reply was lost, may have put the payload there.
        let early = self.archived(message).await;
        if let Ok(Some(reference)) = early {
            return Ok(Secured::Archived(reference));
        }
        let cached = self.cache.payload(id).await;
        let mut corrupted = None;
        if let Ok(Some(payload)) = &cached {
            let found = Sha256::of(payload);
            if found == message.payload.sha256 {
                let kept = self.failed_store.keep(&id.preserved_key(), payload.clone()).await?;
                return Ok(Secured::Preserved(kept));
            }
            let key = format!("corrupted/{}/{}", id.archive_key(), found);
            corrupted = Some(self.failed_store.keep(&key, payload.clone()).await?);
        }
        if let Some(reference) = self.failed_store.find(&id.preserved_key()).await? {
            return Ok(Secured::Preserved(reference));
        }
        if let Some(reference) = self.archived(message).await? {
            return Ok(Secured::Archived(reference));
        }
        if let Some(reference) = corrupted {
            return Ok(Secured::Corrupted(reference));
        }
        cached?;
        Ok(Secured::Nowhere)
    }

    async fn archived(&self, message: &InternalMessage) -> Result<Option<S3Reference>, StageError> {
        match archive::confirm(&self.archive, message).await {
            Ok(object) => Ok(object.map(|object| object.reference)),
            // Another object holds the key, so this record's payload is not there.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}
