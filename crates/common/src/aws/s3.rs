//! Payloads, failed records and pending markers in S3.

use aws_sdk_s3::{
    Client, error::SdkError, operation::put_object::PutObjectError, primitives::ByteStream,
    types::ChecksumMode,
};
use bytes::Bytes;
use custody_core::{
    digest::Sha256,
    error::{ErrorName, StageError},
    message::{InternalMessage, PayloadDescriptor, S3Reference},
    ports::{ArchivedObject, FailedStore, PayloadArchive, PendingMarkers},
    record_id::RecordId,
};

use super::classify::stage_error;

/// The archive bucket.
#[derive(Clone, Debug)]
pub struct S3Archive {
    client: Client,
    bucket: String,
}

impl S3Archive {
    /// The archive in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    fn reference(&self, key: &str) -> S3Reference {
        S3Reference { bucket: self.bucket.clone(), key: key.to_owned() }
    }

    /// The digest of an object that S3 reports no full SHA-256 for.
    async fn digest_of_content(&self, key: &str) -> Result<Sha256, StageError> {
        let operation = || format!("read object {key}");
        let object = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::ArchiveUnavailable, operation()))?;
        let content =
            object.body.collect().await.map_err(|error| {
                StageError::new(ErrorName::ArchiveUnavailable, operation()).caused_by(error)
            })?;
        Ok(Sha256::of(&content.into_bytes()))
    }
}

/// What a conditional write did.
enum Put {
    Written,
    /// There is an object under the key. It is untouched.
    Existed,
}

/// Writes an object where there is none. S3 verifies that what it stores has the digest.
async fn put_if_absent(
    client: &Client,
    bucket: &str,
    key: &str,
    content: Bytes,
    sha256: Sha256,
    content_type: &str,
) -> Result<Put, SdkError<PutObjectError>> {
    let put = client
        .put_object()
        .bucket(bucket)
        .key(key)
        .if_none_match("*")
        .checksum_sha256(sha256.to_base64())
        .content_type(content_type)
        .body(ByteStream::from(content))
        .send()
        .await;
    match put {
        Ok(_) => Ok(Put::Written),
        Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 412) => {
            Ok(Put::Existed)
        }
        Err(error) => Err(error),
    }
}

impl PayloadArchive for S3Archive {
    async fn store(
        &self,
        key: &str,
        payload: Bytes,
        descriptor: &PayloadDescriptor,
    ) -> Result<S3Reference, StageError> {
        let put = put_if_absent(
            &self.client,
            &self.bucket,
            key,
            payload,
            descriptor.sha256,
            &descriptor.content_type,
        )
        .await;
        match put {
            Ok(Put::Written) => return Ok(self.reference(key)),
            Ok(Put::Existed) => {}
            Err(error) => {
                return Err(stage_error(
                    &error,
                    ErrorName::ArchiveUnavailable,
                    format!("store object {key}"),
                ));
            }
        }
        // An earlier run, whose reply was lost, or a concurrent one. Equal bytes are success.
        match self.find(key).await? {
            Some(object) if object.sha256 == descriptor.sha256 => Ok(object.reference),
            Some(object) => Err(StageError::new(
                ErrorName::ArchiveConflict,
                format!(
                    "store object {key}: it exists with SHA-256 {}, not {}",
                    object.sha256, descriptor.sha256
                ),
            )),
            None => Err(StageError::new(
                ErrorName::ArchiveUnavailable,
                format!("store object {key}: it existed and then did not"),
            )),
        }
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key)
            .checksum_mode(ChecksumMode::Enabled)
            .send()
            .await;
        let object = match head {
            Ok(object) => object,
            Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
                return Ok(None);
            }
            Err(error) => {
                return Err(stage_error(
                    &error,
                    ErrorName::ArchiveUnavailable,
                    format!("look up object {key}"),
                ));
            }
        };
        let sha256 = match object.checksum_sha256().and_then(Sha256::from_base64) {
            Some(sha256) => sha256,
            None => self.digest_of_content(key).await?,
        };
        let size_bytes =
            object.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        Ok(Some(ArchivedObject { reference: self.reference(key), sha256, size_bytes }))
    }
}

/// The bucket of failed records.
#[derive(Clone, Debug)]
pub struct S3FailedStore {
    client: Client,
    bucket: String,
}

impl S3FailedStore {
    /// The failed-records store in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }
}

impl FailedStore for S3FailedStore {
    async fn keep(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        let sha256 = Sha256::of(&content);
        // Keys derive from ids and digests, so what exists is what this call would write.
        put_if_absent(&self.client, &self.bucket, key, content, sha256, "application/octet-stream")
            .await
            .map_err(|error| {
                stage_error(&error, ErrorName::FailedStoreUnavailable, format!("keep failed object {key}"))
            })?;
        Ok(S3Reference { bucket: self.bucket.clone(), key: key.to_owned() })
    }
}

/// The bucket of pending markers, `pending/<messageID>`, each holding the record's message.
#[derive(Clone, Debug)]
pub struct S3PendingMarkers {
    client: Client,
    bucket: String,
}

impl S3PendingMarkers {
    /// The markers in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }
}

fn marker_key(id: RecordId) -> String {
    format!("pending/{id}")
}

impl PendingMarkers for S3PendingMarkers {
    async fn mark(&self, message: &InternalMessage) -> Result<(), StageError> {
        let id = message.message_id;
        let content = Bytes::from(message.to_json());
        let sha256 = Sha256::of(&content);
        put_if_absent(&self.client, &self.bucket, &marker_key(id), content, sha256, "application/json")
            .await
            .map_err(|error| {
                stage_error(
                    &error,
                    ErrorName::PendingStoreUnavailable,
                    format!("mark record {id} as pending"),
                )
            })?;
        Ok(())
    }

    async fn clear(&self, id: RecordId) -> Result<(), StageError> {
        self.client.delete_object().bucket(&self.bucket).key(marker_key(id)).send().await.map_err(
            |error| {
                stage_error(
                    &error,
                    ErrorName::PendingStoreUnavailable,
                    format!("clear the pending marker of record {id}"),
                )
            },
        )?;
        Ok(())
    }
}
