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
    attempt::Attempt,
    clock::Timestamp,
    digest::{Hasher, Sha256},
    error::{ErrorName, StageError},
    manifest::Manifest,
    message::{PayloadDescriptor, S3Reference},
    payload_source::{PayloadSource, Pieces, open_on_first_read},
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
    /// Creates the adapter of the archive in `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.bucket
    }

    fn reference(&self, key: &str) -> S3Reference {
        S3Reference { bucket: self.bucket.clone(), key: key.to_owned() }
    }

    /// Returns the object under `key`, which must have this digest; `None` if there is no object.
    pub(crate) async fn expect(
        &self,
        key: &str,
        sha256: Sha256,
    ) -> Result<Option<ArchivedObject>, StageError> {
        match self.find(key).await? {
            Some(object) if object.sha256 != sha256 => Err(StageError::new(
                ErrorName::ArchiveConflict,
                format!("store object {key}: it exists with SHA-256 {}, not {sha256}", object.sha256),
            )),
            found => Ok(found),
        }
    }

    /// Reads the content of an object and returns its digest.
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
        let (mut body, mut hasher) = (object.body, Hasher::default());
        while let Some(piece) = body
            .try_next()
            .await
            .map_err(|error| StageError::new(ErrorName::ArchiveUnavailable, operation()).caused_by(error))?
        {
            hasher.update(&piece);
        }
        Ok(hasher.finish())
    }
}

/// The name of the S3 metadata of an archived object with the time when it was stored.
pub(crate) const ARCHIVED_AT: &str = "archived-at";

/// The result of a conditional write.
pub(crate) enum Put {
    Written,
    /// The key already has an object, which was not changed.
    AlreadyExists,
}

/// A new object.
pub(crate) struct NewObject<'a> {
    pub(crate) key: &'a str,
    pub(crate) content: PayloadSource,
    pub(crate) sha256: Sha256,
    pub(crate) content_type: &'a str,
    /// The time that is stored in the object's metadata.
    pub(crate) archived_at: Option<Timestamp>,
}

/// Writes an object unless its key already has one. S3 verifies that the stored bytes have the digest.
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
        // If the bucket has Object Lock with a default retention, S3 requires one of two headers: `Content-MD5`, or the
        // header that names a checksum algorithm. Source: Amazon S3 API reference, `PutObject`. The emulator requires
        // neither, so this is unverified.
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .checksum_sha256(object.sha256.to_base64())
        .content_type(object.content_type)
        .set_metadata(object.archived_at.map(|at| HashMap::from([(ARCHIVED_AT.to_owned(), at.to_string())])))
        .body(upload(object.content))
        .customize()
        // TLS protects the body, and S3 compares it with the checksum above, whose header is signed. A second digest of
        // the body, for the signature, would prove nothing more.
        .disable_payload_signing()
        .send()
        .await;
    match put {
        Ok(_) => Ok(Put::Written),
        Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 412) => {
            Ok(Put::AlreadyExists)
        }
        Err(error) => Err(error),
    }
}

/// Writes a JSON object unless its key already has an object, which is a success.
pub(crate) async fn put_json_if_absent(
    client: &Client,
    bucket: &str,
    key: &str,
    json: Bytes,
) -> Result<(), SdkError<PutObjectError>> {
    let sha256 = Sha256::of(&json);
    let content_type = "application/json";
    let object = NewObject { key, content: json.into(), sha256, content_type, archived_at: None };
    put_if_absent(client, bucket, object).await.map(drop)
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
            Ok(Put::AlreadyExists) => {}
            Err(error) => {
                let is_bad_digest = error.code() == Some("BadDigest");
                let mut error =
                    stage_error(&error, ErrorName::ArchiveUnavailable, format!("store object {key}"));
                // The bytes that arrived do not have the digest of the request. The emulator answers with this code. It
                // is unverified that S3 uses the code for the checksum headers as it does for Content-MD5. Under
                // another code the record fails, and the failure stage hashes the bytes itself, so no payload is lost.
                if is_bad_digest {
                    error.name = ErrorName::PayloadCorrupted;
                }
                return Err(error);
            }
        }
        // An earlier call whose reply was lost, or a concurrent call, has stored an object. If its bytes are equal,
        // this call succeeds.
        self.expect(key, descriptor.sha256).await?.ok_or_else(|| {
            StageError::new(
                ErrorName::ArchiveUnavailable,
                format!("store object {key}: it existed at the write and was absent at the read"),
            )
        })
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

    async fn store_manifest(&self, manifest: &Manifest) -> Result<(), StageError> {
        let attempt = manifest.attempt();
        let (key, json) = (attempt.manifest_key(), Bytes::from(manifest.to_json()));
        // An existing object needs no comparison: every run of one attempt makes the same manifest.
        put_json_if_absent(&self.client, &self.bucket, &key, json).await.map_err(|error| {
            stage_error(&error, ErrorName::ArchiveUnavailable, format!("store the manifest of {attempt}"))
        })
    }

    async fn manifest(&self, attempt: Attempt) -> Result<Option<Manifest>, StageError> {
        let operation = || format!("read the manifest of {attempt}");
        let unavailable = ErrorName::ArchiveUnavailable;
        let content =
            get(&self.client, &self.bucket, &attempt.manifest_key(), unavailable, operation).await?;
        content.map(|content| Manifest::read(&content)).transpose()
    }
}

/// The failed bucket.
#[derive(Clone, Debug)]
pub struct S3FailedStore {
    client: Client,
    bucket: String,
}

impl S3FailedStore {
    /// Creates the adapter of the failed bucket `bucket`.
    pub fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket }
    }

    fn reference(&self, key: &str) -> S3Reference {
        S3Reference { bucket: self.bucket.clone(), key: key.to_owned() }
    }
}

impl FailedStore for S3FailedStore {
    async fn preserve(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        let sha256 = Sha256::of(&content);
        // An existing object needs no comparison: keys derive from ids and digests, so it has the same content.
        let content_type = "application/octet-stream";
        let object = NewObject { key, content: content.into(), sha256, content_type, archived_at: None };
        put_if_absent(&self.client, &self.bucket, object).await.map_err(|error| {
            stage_error(&error, ErrorName::FailedStoreUnavailable, format!("preserve failed object {key}"))
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
                let operation = format!("look up preserved object {key}");
                Err(stage_error(&error, ErrorName::FailedStoreUnavailable, operation))
            }
        }
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        let operation = || format!("read preserved object {key}");
        get(&self.client, &self.bucket, key, ErrorName::FailedStoreUnavailable, operation).await
    }

    async fn source(&self, key: &str) -> Result<Option<PayloadSource>, StageError> {
        let Some((size_bytes, pieces)) = begin(&self.client, &self.bucket, key).await? else {
            return Ok(None);
        };
        let (store, key) = (self.clone(), key.to_owned());
        let again = move || {
            let (store, key) = (store.clone(), key.clone());
            open_on_first_read(async move {
                let begun = begin(&store.client, &store.bucket, &key).await?;
                Ok::<_, StageError>(begun.map(|(_, pieces)| pieces))
            })
        };
        Ok(Some(PayloadSource::new(size_bytes, pieces, again)))
    }
}

/// Begins to read an object of the failed bucket, and returns its size and the stream of its pieces. `None` if there is
/// no object.
async fn begin(client: &Client, bucket: &str, key: &str) -> Result<Option<(u64, Pieces)>, StageError> {
    let operation = || format!("read preserved object {key}");
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

/// Reads the content of an object. `None` if there is no object.
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

/// Opens an object whose content is then read as a stream. `None` if there is no object.
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
