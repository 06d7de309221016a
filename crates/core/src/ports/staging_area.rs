//! The staging area: payloads of uploads that are not archived yet.

use std::{collections::BTreeMap, future::Future};

use crate::{
    clock::Timestamp,
    digest::Sha256,
    error::StageError,
    message::PayloadDescriptor,
    ports::ArchivedObject,
    record_id::RecordId,
    upload::{PayloadReference, SourceObject, Upload},
};

/// The staging area. It has the payloads of uploads from their arrival until they are archived. A payload that nobody removes
/// expires. No call reads the bytes of a payload: the store itself receives, verifies and copies them.
pub trait StagingArea: Send + Sync {
    /// Signs a link with which its holder can store the payload of `upload`: exactly the announced number of bytes, with exactly
    /// the announced digest and content type, and only once.
    fn upload_link(
        &self,
        upload: &Upload,
        now: Timestamp,
    ) -> impl Future<Output = Result<UploadLink, StageError>> + Send;

    /// Returns the staged payload of an upload. `None` if the store has none.
    fn find(&self, id: RecordId) -> impl Future<Output = Result<Option<StagedPayload>, StageError>> + Send;

    /// Returns the object that a producer sends by reference, as it is now. `None` if there is no such object. `AccessDenied` if
    /// the object, or the key that encrypts it, must not be used, and
    /// `ServiceRefused` if the store cannot copy it for another reason, which does not pass.
    fn inspect(
        &self,
        requested: &PayloadReference,
    ) -> impl Future<Output = Result<Option<SourceObject>, StageError>> + Send;

    /// Copies an object into the staging area, as the payload of an upload. Returns the staged payload, whose digest the store has
    /// computed; `None` if the object has changed, or is gone. The content type of the copy is that of the upload.
    fn copy_in(
        &self,
        upload: &Upload,
        source: &SourceObject,
    ) -> impl Future<Output = Result<Option<StagedPayload>, StageError>> + Send;

    /// Copies a staged payload to its place in the archive. The conditions and errors are those of `PayloadArchive::store`.
    fn archive(
        &self,
        id: RecordId,
        staged: &StagedPayload,
        payload: &PayloadDescriptor,
        now: Timestamp,
    ) -> impl Future<Output = Result<ArchivedObject, StageError>> + Send;

    /// Removes the staged payload of an upload. Success if there is none.
    fn remove(&self, id: RecordId) -> impl Future<Output = Result<(), StageError>> + Send;
}

/// A link with which anybody can store one payload, for a short time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadLink {
    /// The HTTP method of the request: `PUT`.
    pub method: String,
    pub url: String,
    /// The headers that the request must have. The link's signature covers them.
    pub headers: BTreeMap<String, String>,
    /// When the link stops to work.
    pub expires_at: Timestamp,
}

/// A payload in the staging area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedPayload {
    /// The entity tag, which changes with the content.
    pub etag: String,
    /// The digest that the store has computed. `None` if the store has none.
    pub sha256: Option<Sha256>,
    pub size_bytes: u64,
}
