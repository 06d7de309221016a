//! Secures the payload of a failed record: finds it in the archive or in the failed bucket, or copies it from the cache
//! to the failed bucket.

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
pub(super) enum SecuredPayload {
    /// In the archive.
    Archived(S3Reference),
    /// In the failed bucket.
    Preserved(S3Reference),
    /// In the failed bucket, but its bytes do not have the digest in the receipt. An operator may want to inspect them.
    Corrupted(S3Reference),
    /// In no store: cache, failed bucket and archive have each answered that they do not have it.
    Missing,
}

impl SecuredPayload {
    pub(super) fn archived(&self) -> Option<&S3Reference> {
        match self {
            Self::Archived(reference) => Some(reference),
            Self::Preserved(_) | Self::Corrupted(_) | Self::Missing => None,
        }
    }

    pub(super) fn reference(&self) -> Option<&S3Reference> {
        match self {
            Self::Archived(reference) | Self::Preserved(reference) | Self::Corrupted(reference) => {
                Some(reference)
            }
            Self::Missing => None,
        }
    }
}

impl<D: Deployment> Failure<D> {
    /// Finds the payload in the archive or the failed bucket, or copies it from the cache to the failed bucket.
    ///
    /// Returns `Missing` only after the cache, then the failed bucket, then the archive have answered that they do not
    /// have the payload. The order matters: payloads move in this direction, so a payload that moves during the search
    /// is found at its source or at its destination. A failed bucket that cannot be asked is an error. A cache that
    /// cannot be asked is an error unless another store has the payload.
    pub(super) async fn secure_payload(
        &self,
        message: &InternalMessage,
    ) -> Result<SecuredPayload, StageError> {
        let id = message.message_id;
        // The archive is asked first to avoid a copy: ingest, or an archive stage whose reply was lost, may have stored
        // the payload there.
        let already_archived = self.archived(message).await;
        if let Ok(Some(reference)) = already_archived {
            return Ok(SecuredPayload::Archived(reference));
        }
        let cached = self.cache.payload(id).await;
        let mut corrupted = None;
        if let Ok(Some(payload)) = &cached {
            let found = Sha256::of(payload);
            if found == message.payload.sha256 {
                let preserved = self.failed_store.preserve(&id.preserved_key(), payload.clone()).await?;
                return Ok(SecuredPayload::Preserved(preserved));
            }
            let key = id.corrupted_key(found);
            corrupted = Some(self.failed_store.preserve(&key, payload.clone()).await?);
        }
        if let Some(reference) = self.failed_store.find(&id.preserved_key()).await? {
            return Ok(SecuredPayload::Preserved(reference));
        }
        if let Some(reference) = self.archived(message).await? {
            return Ok(SecuredPayload::Archived(reference));
        }
        if let Some(reference) = corrupted {
            return Ok(SecuredPayload::Corrupted(reference));
        }
        // A cache that could not be asked has not reported that the payload is absent.
        cached?;
        Ok(SecuredPayload::Missing)
    }

    async fn archived(&self, message: &InternalMessage) -> Result<Option<S3Reference>, StageError> {
        match archive::find_verified(&self.archive, message).await {
            Ok(object) => Ok(object.map(|object| object.reference)),
            // An object with another digest has this key, so the archive does not have this record's payload.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}
