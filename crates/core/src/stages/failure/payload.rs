//! The payload of a failed record: found, or copied to where it is kept.

use super::Failure;
use crate::{
    error::{ErrorKind, StageError},
    message::{InternalMessage, S3Reference},
    ports::{FailedStore, PayloadArchive, PayloadCache},
    record_id::RecordId,
    stages::archive,
};

/// The key of a failed record's payload in the failed-records store.
pub fn kept_key(id: RecordId) -> String {
    format!("records/{}", id.archive_key())
}

/// Where a failed record's payload is.
#[derive(Debug)]
pub(super) enum Kept {
    /// In the archive.
    Archived(S3Reference),
    /// In the failed-records store.
    Copied(S3Reference),
    /// Somewhere, but the store that should have it, or take it, cannot be used before a person has looked.
    Unknown,
    /// In no store.
    Nowhere,
}

impl Kept {
    pub(super) fn archived(&self) -> Option<&S3Reference> {
        match self {
            Self::Archived(reference) => Some(reference),
            Self::Copied(_) | Self::Unknown | Self::Nowhere => None,
        }
    }

    pub(super) fn reference(&self) -> Option<&S3Reference> {
        match self {
            Self::Archived(reference) | Self::Copied(reference) => Some(reference),
            Self::Unknown | Self::Nowhere => None,
        }
    }
}

impl<C, A, M, T, F, D, R, N, K> Failure<C, A, M, T, F, D, R, N, K>
where
    C: PayloadCache,
    A: PayloadArchive,
    F: FailedStore,
{
    /// Finds the payload, or copies it to where it is kept. A store that cannot be had for now fails the run, as long
    /// as the bytes are not known to be safe; one that a person must put right is remarked.
    pub(super) async fn secure_payload(
        &self,
        message: &InternalMessage,
        unfinished: &mut Vec<String>,
    ) -> Result<Kept, StageError> {
        // The archive may have the payload although no receipt came: the reply was lost, or ingest put it there.
        let not_asked = match archive::confirm(&self.archive, message).await {
            Ok(Some(reference)) => return Ok(Kept::Archived(reference)),
            Ok(None) => None,
            // Another object holds the key: the payload is not there.
            Err(error) if error.kind() == ErrorKind::Conflict => None,
            Err(error) => Some(error),
        };
        match self.rescue_payload(message).await {
            Ok(Some(reference)) => return Ok(Kept::Copied(reference)),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Transient => return Err(error),
            Err(error) => {
                unfinished.push(format!(
                    "the payload is still only in the cache ({}: {error})",
                    error.name.as_str()
                ));
                return Ok(Kept::Unknown);
            }
        }
        match (not_asked, &message.storage_context.s3_reference) {
            // What ingest itself wrote and confirmed is there, whether or not the archive can be asked now.
            (Some(_), Some(reference)) => Ok(Kept::Archived(reference.clone())),
            (Some(error), None) if error.kind() == ErrorKind::Transient => Err(error),
            (Some(error), None) => {
                unfinished.push(format!(
                    "the archive could not be asked for the payload ({}: {error})",
                    error.name.as_str()
                ));
                Ok(Kept::Unknown)
            }
            (None, _) => Ok(Kept::Nowhere),
        }
    }

    /// Copies the payload from the cache to the failed-records store. Bytes that are not the record's are kept
    /// too, under their own digest: a person may want to see them.
    async fn rescue_payload(&self, message: &InternalMessage) -> Result<Option<S3Reference>, StageError> {
        let id = message.message_id;
        let Some(payload) = self.cache.payload(id).await? else { return Ok(None) };
        let actual = payload.sha256;
        let key = if actual == message.payload.sha256 {
            kept_key(id)
        } else {
            format!("corrupted/{}/{actual}", id.archive_key())
        };
        self.failed_store.keep(&key, payload.bytes).await.map(Some)
    }
}
