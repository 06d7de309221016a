//! Payloads, failed records and pending markers in S3.

use aws_sdk_s3::{
    Client, error::SdkError, operation::put_object::PutObjectError, primitives::ByteStream,
    types::ChecksumMode,
};
use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    digest::Sha256,
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, PayloadDescriptor, S3Reference},
    ports::{
        ArchivedObject, FailedStore, IdempotencyClaims, PayloadArchive, PendingMarkers, PendingRun,
        PendingRuns,
    },
    run::Run,
};
use serde::de::DeserializeOwned;
use tracing::warn;

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

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        let operation = || format!("fetch failed object {key}");
        get(&self.client, &self.bucket, key, ErrorName::FailedStoreUnavailable, operation).await
    }
}

/// The content of an object, `None` where there is none.
async fn get(
    client: &Client,
    bucket: &str,
    key: &str,
    unavailable: ErrorName,
    operation: impl Fn() -> String,
) -> Result<Option<Bytes>, StageError> {
    let object = match client.get_object().bucket(bucket).key(key).send().await {
        Ok(object) => object,
        Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
            return Ok(None);
        }
        Err(error) => return Err(stage_error(&error, unavailable, operation())),
    };
    let content = object.body.collect().await;
    let content = content.map_err(|error| StageError::new(unavailable, operation()).caused_by(error))?;
    Ok(Some(content.into_bytes()))
}

/// The bucket of pending markers, `pending/<run>`, each holding the record's message, and of the claims of idempotency
/// keys from times without a cache, `idempotency/<sha256>`.
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

/// Where markers are.
const MARKERS: &str = "pending/";

fn marker_key(run: Run) -> String {
    format!("{MARKERS}{run}")
}

fn claim_key(key: &IdempotencyKey) -> String {
    format!("idempotency/{key}")
}

/// Objects are written once, so that a claim's record is stored is an object of its own.
fn stored_claim_key(key: &IdempotencyKey) -> String {
    format!("idempotency/{key}.stored")
}

fn from_json<T: DeserializeOwned>(operation: String, content: &[u8]) -> Result<T, StageError> {
    serde_json::from_slice(content)
        .map_err(|error| StageError::new(ErrorName::ServiceRefused, operation).caused_by(error))
}

impl S3PendingMarkers {
    async fn put_json(&self, key: &str, text: String, operation: String) -> Result<Put, StageError> {
        let content = Bytes::from(text);
        let sha256 = Sha256::of(&content);
        put_if_absent(&self.client, &self.bucket, key, content, sha256, "application/json")
            .await
            .map_err(|error| stage_error(&error, ErrorName::PendingStoreUnavailable, operation))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
        operation: impl Fn() -> String,
    ) -> Result<Option<T>, StageError> {
        let unavailable = ErrorName::PendingStoreUnavailable;
        let content = get(&self.client, &self.bucket, key, unavailable, &operation).await?;
        content.map(|content| from_json(operation(), &content)).transpose()
    }
}

impl PendingMarkers for S3PendingMarkers {
    async fn mark(&self, message: &InternalMessage) -> Result<(), StageError> {
        let run = message.run();
        self.put_json(&marker_key(run), message.to_json(), format!("mark run {run} as pending"))
            .await
            .map(drop)
    }

    async fn clear(&self, run: Run) -> Result<(), StageError> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(marker_key(run)).send().await;
        let operation = format!("clear the pending marker of run {run}");
        delete.map(drop).map_err(|error| stage_error(&error, ErrorName::PendingStoreUnavailable, operation))
    }
}

impl PendingRuns for S3PendingMarkers {
    /// In the order of their names, which for first runs is that of their ages.
    async fn pending(&self, limit: usize) -> Result<Vec<PendingRun>, StageError> {
        let mut pending = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(MARKERS).into_paginator().send();
        while pending.len() < limit
            && let Some(page) = pages.next().await
        {
            let page = page.map_err(|error| {
                stage_error(&error, ErrorName::PendingStoreUnavailable, "list the pending markers")
            })?;
            for object in page.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(MARKERS)).unwrap_or_default();
                let since = object.last_modified().and_then(|time| time.to_millis().ok());
                if let (Ok(run), Some(since)) = (name.parse(), since.and_then(Timestamp::from_unix_ms)) {
                    pending.push(PendingRun { run, since });
                } else {
                    warn!(name, "an object among the pending markers is not Custody's");
                }
            }
        }
        pending.truncate(limit);
        Ok(pending)
    }

    async fn message(&self, run: Run) -> Result<Option<InternalMessage>, StageError> {
        self.read(&marker_key(run), || format!("read the pending marker of run {run}")).await
    }
}

impl IdempotencyClaims for S3PendingMarkers {
    async fn claim(&self, key: &IdempotencyKey, claim: &Claim) -> Result<Claim, StageError> {
        let operation = || format!("claim an idempotency key for record {}", claim.message_id);
        let text = serde_json::to_string(claim).expect("a claim always serializes");
        match self.put_json(&claim_key(key), text, operation()).await? {
            Put::Written => Ok(claim.clone()),
            Put::Existed => self.find(key).await?.ok_or_else(|| {
                StageError::new(
                    ErrorName::PendingStoreUnavailable,
                    format!("{}: there was a claim and then there was not", operation()),
                )
            }),
        }
    }

    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        let operation = || "look up an idempotency key".to_owned();
        let (stored, claimed) = (stored_claim_key(key), claim_key(key));
        let (stored, claimed) =
            futures_util::future::join(self.read(&stored, operation), self.read(&claimed, operation)).await;
        Ok(stored?.or(claimed?))
    }

    async fn confirm(&self, key: &IdempotencyKey, claim: &Claim) -> Result<(), StageError> {
        let text = serde_json::to_string(claim).expect("a claim always serializes");
        let operation = format!("confirm the claim of record {}", claim.message_id);
        self.put_json(&stored_claim_key(key), text, operation).await.map(drop)
    }
}
