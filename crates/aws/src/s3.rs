//! Payloads in S3: the archive and the failed bucket.

use std::{collections::HashMap, io};

use aws_sdk_s3::{
    Client,
    error::SdkError,
    operation::{get_object::GetObjectOutput, put_object::PutObjectError},
    types::{ChecksumAlgorithm, ChecksumMode},
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata as _;
use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    digest::Sha256,
    error::{ErrorName, StageError},
    message::{PayloadDescriptor, S3Reference},
    payload_source::{PayloadSource, Pieces, opened_later},
    ports::{ArchivedObject, FailedStore, PayloadArchive},
};
use futures_util::{StreamExt as _, stream};

use crate::{classify::stage_error, upload::upload};

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

    /// The digest of an object's content, read and hashed.
    pub async fn digest_of_content(&self, key: &str) -> Result<Sha256, StageError> {
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

/// The metadata of an archived object that tells when it was stored.
const ARCHIVED_AT: &str = "archived-at";

/// What a conditional write did.
pub(crate) enum Put {
    Written,
    /// There is an object under the key. It is untouched.
    Existed,
}

/// An object to write.
pub(crate) struct NewObject<'a> {
    pub(crate) key: &'a str,
    pub(crate) content: PayloadSource,
    pub(crate) sha256: Sha256,
    pub(crate) content_type: &'a str,
    /// The time that the object tells later.
    pub(crate) archived_at: Option<Timestamp>,
}

/// Writes an object where there is none. S3 verifies that what it stores has the digest.
pub(crate) async fn put_if_absent(
    client: &Client,
    bucket: &str,
    object: NewObject<'_>,
) -> Result<Put, SdkError<PutObjectError>> {
    let put = client
        .put_object()
        .bucket(bucket)
        .key(object.key)
        .if_none_match("*")
        // S3 asks for one of two headers where the bucket has Object Lock and a default retention: `Content-MD5`, or the one that
        // names the algorithm of a checksum. Source: Amazon S3 API reference, `PutObject`. The emulator asks for neither: unverified.
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .checksum_sha256(object.sha256.to_base64())
        .content_type(object.content_type)
        .set_metadata(object.archived_at.map(|at| HashMap::from([(ARCHIVED_AT.to_owned(), at.to_string())])))
        .body(upload(object.content))
        .customize()
        // TLS carries the body, and S3 holds it against the checksum above, whose header is signed: another digest of it, for
        // the signature, would prove nothing more.
        .disable_payload_signing()
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
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let PayloadDescriptor { sha256, size_bytes, content_type, .. } = descriptor;
        let object =
            NewObject { key, content: payload, sha256: *sha256, content_type, archived_at: Some(now) };
        match put_if_absent(&self.client, &self.bucket, object).await {
            Ok(Put::Written) => {
                return Ok(ArchivedObject {
                    reference: self.reference(key),
                    sha256: *sha256,
                    size_bytes: *size_bytes,
                    archived_at: now,
                });
            }
            Ok(Put::Existed) => {}
            Err(error) => {
                let is_bad_digest = error.code() == Some("BadDigest");
                let mut error =
                    stage_error(&error, ErrorName::ArchiveUnavailable, format!("store object {key}"));
                // What arrived has another digest than the checksum in the request. The emulator answers so; that S3 uses this
                // code for the checksum headers as it does for Content-MD5 is unverified. Under another code the record fails,
                // and the failure stage hashes the bytes itself: nothing is lost.
                if is_bad_digest {
                    error.name = ErrorName::PayloadCorrupted;
                }
                return Err(error);
            }
        }
        // An earlier call, whose reply was lost, or a concurrent one. Equal bytes are success.
        match self.find(key).await? {
            Some(object) if object.sha256 == descriptor.sha256 => Ok(object),
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
        let noted = object.metadata().and_then(|metadata| metadata.get(ARCHIVED_AT));
        let modified = object.last_modified().and_then(|time| time.to_millis().ok());
        let archived_at = noted.and_then(|text| Timestamp::parse(text));
        let archived_at =
            archived_at.or_else(|| modified.and_then(Timestamp::from_unix_ms)).ok_or_else(|| {
                let operation = format!("look up object {key}: it has no time");
                StageError::new(ErrorName::ServiceRefused, operation)
            })?;
        Ok(Some(ArchivedObject { reference: self.reference(key), sha256, size_bytes, archived_at }))
    }
}

/// The bucket of failed records.
#[derive(Clone, Debug)]
pub struct S3FailedStore {
    client: Client,
    bucket: String,
}

impl S3FailedStore {
    /// The failed bucket `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    fn reference(&self, key: &str) -> S3Reference {
        S3Reference { bucket: self.bucket.clone(), key: key.to_owned() }
    }
}

impl FailedStore for S3FailedStore {
    async fn keep(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        let sha256 = Sha256::of(&content);
        // Keys derive from ids and digests, so what exists is what this call would write.
        let content_type = "application/octet-stream";
        let object = NewObject { key, content: content.into(), sha256, content_type, archived_at: None };
        put_if_absent(&self.client, &self.bucket, object).await.map_err(|error| {
            stage_error(&error, ErrorName::FailedStoreUnavailable, format!("keep failed object {key}"))
        })?;
        Ok(self.reference(key))
    }

    async fn find(&self, key: &str) -> Result<Option<S3Reference>, StageError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(_) => Ok(Some(self.reference(key))),
            Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
                Ok(None)
            }
            Err(error) => {
                let operation = format!("look up failed object {key}");
                Err(stage_error(&error, ErrorName::FailedStoreUnavailable, operation))
            }
        }
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        let operation = || format!("fetch failed object {key}");
        get(&self.client, &self.bucket, key, ErrorName::FailedStoreUnavailable, operation).await
    }

    async fn source(&self, key: &str) -> Result<Option<PayloadSource>, StageError> {
        let Some((size_bytes, pieces)) = begin(&self.client, &self.bucket, key).await? else {
            return Ok(None);
        };
        let (store, key) = (self.clone(), key.to_owned());
        let again = move || {
            let (store, key) = (store.clone(), key.clone());
            opened_later(async move {
                let begun = begin(&store.client, &store.bucket, &key).await?;
                Ok::<_, StageError>(begun.map(|(_, pieces)| pieces))
            })
        };
        Ok(Some(PayloadSource::new(size_bytes, pieces, again)))
    }
}

/// Begins to read a failed object: its size, and its pieces as they come in. `None` where there is none.
async fn begin(client: &Client, bucket: &str, key: &str) -> Result<Option<(u64, Pieces)>, StageError> {
    let operation = || format!("read failed object {key}");
    let Some(object) = open(client, bucket, key, ErrorName::FailedStoreUnavailable, operation).await? else {
        return Ok(None);
    };
    let size = object.content_length().and_then(|size| u64::try_from(size).ok()).ok_or_else(|| {
        StageError::new(ErrorName::ServiceRefused, format!("{}: it has no size", operation()))
    })?;
    let pieces = stream::try_unfold(object.body, async |mut body| {
        let piece = body.try_next().await.map_err(io::Error::other)?;
        Ok(piece.map(|piece| (piece, body)))
    });
    Ok(Some((size, pieces.boxed())))
}

/// The content of an object, `None` where there is none.
pub(crate) async fn get(
    client: &Client,
    bucket: &str,
    key: &str,
    unavailable: ErrorName,
    operation: impl Fn() -> String,
) -> Result<Option<Bytes>, StageError> {
    let Some(object) = open(client, bucket, key, unavailable, &operation).await? else { return Ok(None) };
    let content = object.body.collect().await;
    let content = content.map_err(|error| StageError::new(unavailable, operation()).caused_by(error))?;
    Ok(Some(content.into_bytes()))
}

/// An object whose content is about to come in; `None` where there is none.
async fn open(
    client: &Client,
    bucket: &str,
    key: &str,
    unavailable: ErrorName,
    operation: impl Fn() -> String,
) -> Result<Option<GetObjectOutput>, StageError> {
    match client.get_object().bucket(bucket).key(key).send().await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
            Ok(None)
        }
        Err(error) => Err(stage_error(&error, unavailable, operation())),
    }
}
