//! The staging area in S3, and the copies from producers' buckets to it and from it to the archive.
//!
//! S3 receives, verifies and copies all payloads; no byte of them passes through a function.

use std::{collections::HashMap, time::Duration};

use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::{
        copy_object::{CopyObjectError, builders::CopyObjectFluentBuilder},
        head_object::HeadObjectOutput,
    },
    types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, MetadataDirective, TaggingDirective},
};
use custody_core::{
    clock::Timestamp,
    digest::Sha256,
    error::{ErrorName, StageError},
    message::PayloadDescriptor,
    ports::{ArchivedObject, StagedPayload, StagingArea, UploadLink},
    record_id::RecordId,
    upload::{PayloadReference, SourceObject, SourceUri, Upload},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    classify::stage_error,
    s3::{ARCHIVED_AT, S3Archive},
    values::link_signing,
};

/// The time for which a link works. S3 checks it when an upload begins, so it limits no upload that takes longer.
const LIFETIME: Duration = Duration::from_hours(1);

/// The characters of a key that need no encoding in the header `x-amz-copy-source`.
const IN_COPY_SOURCE: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The staging bucket, and the archive that payloads are copied to.
#[derive(Clone, Debug)]
pub struct S3StagingArea {
    client: Client,
    copier: Client,
    bucket: String,
    archive: S3Archive,
}

impl S3StagingArea {
    /// Creates the adapter of the staging area in `bucket`. The calls of the client `copier` may take as long as the copy of the largest
    /// payload.
    pub fn new(client: Client, copier: Client, bucket: String, archive_bucket: String) -> Self {
        let archive = S3Archive::new(client.clone(), archive_bucket);
        Self { client, copier, bucket, archive }
    }

    /// Begins a copy of an object, with its content type and metadata replaced, and with a digest that S3 computes.
    fn copy(&self, uri: &SourceUri, etag: &str) -> CopyObjectFluentBuilder {
        self.copier
            .copy_object()
            .copy_source(copy_source(uri))
            .copy_source_if_match(etag)
            .metadata_directive(MetadataDirective::Replace)
            // The tags of the source are not copied, which would need a right to read them. Unverified: that no right to write
            // tags is needed to write none.
            .tagging_directive(TaggingDirective::Replace)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
    }

    fn staged_uri(&self, id: RecordId) -> SourceUri {
        SourceUri { bucket: self.bucket.clone(), key: id.staged_key(), version_id: None }
    }
}

/// Returns the value of the header `x-amz-copy-source`.
fn copy_source(uri: &SourceUri) -> String {
    let path = format!("{}/{}", uri.bucket, utf8_percent_encode(&uri.key, IN_COPY_SOURCE));
    let version = uri.version_id.as_ref().map(|version| utf8_percent_encode(version, IN_COPY_SOURCE));
    version.map_or_else(|| path.clone(), |version| format!("{path}?versionId={version}"))
}

/// The codes and the status of a missing object or version.
const GONE: (u16, [&str; 2]) = (404, ["NoSuchKey", "NoSuchVersion"]);
/// The codes and the status of a condition that is false.
const PRECONDITION: (u16, [&str; 2]) = (412, ["PreconditionFailed", "ConditionNotMet"]);
/// The codes and the status of two conditional writes of one object at the same time.
const CONFLICT: (u16, [&str; 2]) = (409, ["ConditionalRequestConflict", "OperationAborted"]);

/// Whether a copy has failed with this status or one of these codes. A copy that takes long may fail within an answer of status 200.
/// Source: Amazon S3 API reference, `CopyObject`.
fn is_one_of(error: &SdkError<CopyObjectError>, (status, codes): &(u16, [&str; 2])) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == *status)
        || error.code().is_some_and(|code| codes.contains(&code))
}

/// Returns the digest of a whole object. The checksum of an object that was uploaded in parts is that of its parts' checksums.
fn digest_of(object: &HeadObjectOutput) -> Option<Sha256> {
    let is_whole = object.checksum_type().is_none_or(|kind| *kind == ChecksumType::FullObject);
    object.checksum_sha256().filter(|_| is_whole).and_then(Sha256::from_base64)
}

fn size_of(object: &HeadObjectOutput) -> u64 {
    object.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or_default()
}

impl StagingArea for S3StagingArea {
    async fn upload_link(&self, upload: &Upload, now: Timestamp) -> Result<UploadLink, StageError> {
        let operation = || format!("sign the link of upload {}", upload.message_id);
        let refused =
            |why: &str| StageError::new(ErrorName::ServiceRefused, format!("{}: {why}", operation()));
        let sha256 = upload.payload.sha256.ok_or_else(|| refused("its digest is not known"))?;
        let size = i64::try_from(upload.payload.size_bytes).map_err(|_| refused("it is too large"))?;
        let signing = link_signing(now, LIFETIME).map_err(|error| refused(&error.to_string()))?;
        let signed = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(upload.message_id.staged_key())
            .if_none_match("*")
            .content_length(size)
            .content_type(&upload.payload.content_type)
            .checksum_sha256(sha256.to_base64())
            .presigned(signing)
            .await
            .map_err(|error| stage_error(&error, ErrorName::ArchiveUnavailable, operation()))?;
        Ok(UploadLink {
            method: signed.method().to_owned(),
            url: signed.uri().to_owned(),
            headers: signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            expires_at: now.after(LIFETIME),
        })
    }

    async fn find(&self, id: RecordId) -> Result<Option<StagedPayload>, StageError> {
        let key = id.staged_key();
        let head =
            self.client.head_object().bucket(&self.bucket).key(&key).checksum_mode(ChecksumMode::Enabled);
        match head.send().await {
            Ok(object) => Ok(Some(StagedPayload {
                etag: object.e_tag().unwrap_or_default().to_owned(),
                sha256: digest_of(&object),
                size_bytes: size_of(&object),
            })),
            Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
                Ok(None)
            }
            Err(error) => Err(stage_error(
                &error,
                ErrorName::ArchiveUnavailable,
                format!("look up staged object {key}"),
            )),
        }
    }

    async fn inspect(&self, requested: &PayloadReference) -> Result<Option<SourceObject>, StageError> {
        let uri = &requested.uri;
        let head = self
            .client
            .head_object()
            .bucket(&uri.bucket)
            .key(&uri.key)
            .set_version_id(uri.version_id.clone())
            // With this mode, S3 requires the right to use the key of an encrypted object. Source: Amazon S3 API reference,
            // `HeadObject`. Unverified here.
            .checksum_mode(ChecksumMode::Enabled);
        let object = match head.send().await {
            Ok(object) => object,
            Err(error) => {
                let status = error.raw_response().map(|response| response.status().as_u16());
                return match status {
                    Some(404) => Ok(None),
                    // An answer to HEAD has no error code. S3 answers 400 to a malformed version and to a request without the key
                    // of the customer's own encryption (SSE-C), which Custody never has. Unverified here.
                    Some(400) => Err(StageError::new(ErrorName::AccessDenied, format!("look up {uri}"))),
                    _ => Err(stage_error(&error, ErrorName::ArchiveUnavailable, format!("look up {uri}"))),
                };
            }
        };
        // A version in a bucket with versioning cannot change any more.
        let version_id = object.version_id().filter(|version| *version != "null").map(str::to_owned);
        Ok(Some(SourceObject {
            uri: SourceUri { version_id: uri.version_id.clone().or(version_id), ..uri.clone() },
            requested: requested.clone(),
            etag: object.e_tag().unwrap_or_default().to_owned(),
            size_bytes: size_of(&object),
            content_type: object.content_type().map(str::to_owned),
            sha256: digest_of(&object),
        }))
    }

    async fn copy_in(
        &self,
        upload: &Upload,
        source: &SourceObject,
    ) -> Result<Option<StagedPayload>, StageError> {
        let id = upload.message_id;
        let copied = self
            .copy(&source.uri, &source.etag)
            .bucket(&self.bucket)
            .key(id.staged_key())
            .content_type(&upload.payload.content_type)
            .send()
            .await;
        match copied {
            // The answer has no size, so the staged object is looked up.
            Ok(_) => self.find(id).await,
            Err(error) if is_one_of(&error, &GONE) || is_one_of(&error, &PRECONDITION) => Ok(None),
            Err(error) => Err(stage_error(
                &error,
                ErrorName::ArchiveUnavailable,
                format!("copy {} for upload {id}", source.uri),
            )),
        }
    }

    async fn archive(
        &self,
        id: RecordId,
        staged: &StagedPayload,
        payload: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let operation = || format!("archive the payload of upload {id}");
        let key = id.archive_key();
        let copied = self
            .copy(&self.staged_uri(id), &staged.etag)
            .bucket(self.archive.bucket())
            .key(&key)
            // Source: Amazon S3 user guide, "Conditional writes": `CopyObject` takes this condition on its destination.
            .if_none_match("*")
            .content_type(&payload.content_type)
            .set_metadata(Some(HashMap::from([(ARCHIVED_AT.to_owned(), now.to_string())])))
            .send()
            .await;
        let missing = match copied {
            Ok(_) => ErrorName::ArchiveUnavailable,
            Err(error) if is_one_of(&error, &GONE) => ErrorName::PayloadMissing,
            // The key has an object, or gets one now, or the staged object has changed. If there is no object, a later call decides.
            Err(error) if is_one_of(&error, &PRECONDITION) || is_one_of(&error, &CONFLICT) => {
                ErrorName::ArchiveUnavailable
            }
            Err(error) => return Err(stage_error(&error, ErrorName::ArchiveUnavailable, operation())),
        };
        // The object is read back in every case: an earlier or concurrent call may have made it, and the digest that counts is the
        // one of the object in the archive.
        let found = self.archive.expect(&key, payload.sha256).await?;
        found.ok_or_else(|| StageError::new(missing, format!("{}: the copy did not succeed", operation())))
    }

    async fn remove(&self, id: RecordId) -> Result<(), StageError> {
        let key = id.staged_key();
        let removed = self.client.delete_object().bucket(&self.bucket).key(&key).send().await;
        removed.map(drop).map_err(|error| {
            stage_error(&error, ErrorName::ArchiveUnavailable, format!("remove staged object {key}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_source_is_an_encoded_path_with_a_version() {
        let uri: SourceUri = "s3://scans/a b/ü?x=1+2%.png".parse().unwrap();
        assert_eq!(copy_source(&uri), "scans/a%20b/%C3%BC%3Fx%3D1%2B2%25.png");
        let uri = SourceUri { version_id: Some("v/1+".to_owned()), ..uri };
        assert_eq!(copy_source(&uri), "scans/a%20b/%C3%BC%3Fx%3D1%2B2%25.png?versionId=v/1%2B");
    }
}
