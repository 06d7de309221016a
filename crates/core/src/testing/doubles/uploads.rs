//! The doubles of the upload table and of the staging area.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    digest::Sha256,
    error::{ErrorName, StageError},
    idempotency::IdempotencyKey,
    message::PayloadDescriptor,
    ports::{ArchivedObject, PayloadArchive as _, StagedPayload, StagingArea, UploadLink, Uploads},
    record_id::RecordId,
    upload::{PayloadReference, SourceObject, SourceUri, Upload},
};

use super::{MemoryArchive, Store, yield_once};

failing!(MemoryUploads, MemoryStagingArea);

/// An upload table in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryUploads(Arc<Store<UploadTable>>);

#[derive(Debug, Default)]
struct UploadTable {
    uploads: BTreeMap<RecordId, Upload>,
    of_keys: BTreeMap<IdempotencyKey, RecordId>,
    leases: BTreeMap<RecordId, Timestamp>,
}

impl Uploads for MemoryUploads {
    async fn begin(&self, upload: &Upload, now: Timestamp) -> Result<Upload, StageError> {
        let mut table = self.0.open().await?;
        let holder = table.of_keys.get(&upload.key).and_then(|id| table.uploads.get(id));
        if let Some(holder) = holder.filter(|holder| !holder.is_expired(now)) {
            return Ok(holder.clone());
        }
        table.of_keys.insert(upload.key, upload.message_id);
        table.uploads.insert(upload.message_id, upload.clone());
        Ok(upload.clone())
    }

    async fn of_key(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<Upload>, StageError> {
        let table = self.0.open().await?;
        let upload = table.of_keys.get(key).and_then(|id| table.uploads.get(id));
        Ok(upload.filter(|upload| !upload.is_expired(now)).cloned())
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StageError> {
        let mut table = self.0.open().await?;
        if table.of_keys.get(&upload.key) == Some(&upload.message_id) {
            table.of_keys.remove(&upload.key);
        }
        Ok(())
    }

    async fn lease(&self, id: RecordId, until: Timestamp, now: Timestamp) -> Result<bool, StageError> {
        let mut table = self.0.open().await?;
        if !table.uploads.contains_key(&id) || table.leases.get(&id).is_some_and(|until| *until > now) {
            return Ok(false);
        }
        table.leases.insert(id, until);
        Ok(true)
    }

    async fn end_lease(&self, id: RecordId, until: Timestamp) -> Result<(), StageError> {
        let mut table = self.0.open().await?;
        if table.leases.get(&id) == Some(&until) {
            table.leases.remove(&id);
        }
        Ok(())
    }

    async fn find(&self, id: RecordId) -> Result<Option<Upload>, StageError> {
        Ok(self.0.open().await?.uploads.get(&id).cloned())
    }
}

/// A staging area in memory, with objects of producers that can be copied, and the archive that payloads are copied to.
#[derive(Clone, Debug, Default)]
pub struct MemoryStagingArea(Arc<Store<Objects>>, MemoryArchive);

#[derive(Debug, Default)]
struct Objects {
    staged: BTreeMap<RecordId, Bytes>,
    /// The objects of producers. `None` is an object that must not be read.
    sources: BTreeMap<String, Option<Bytes>>,
    /// The sizes that are reported of objects, in place of those of their contents.
    reported_sizes: BTreeMap<String, u64>,
    /// How often a look-up of a staged payload yields before it takes place.
    yields: u32,
}

impl MemoryStagingArea {
    /// Creates a staging area whose payloads are copied to `archive`.
    pub fn over(archive: MemoryArchive) -> Self {
        Self(Arc::default(), archive)
    }

    /// Stores a payload, as the holder of an upload's link does.
    pub fn upload(&self, id: RecordId, content: &[u8]) {
        self.0.peek().staged.insert(id, Bytes::copy_from_slice(content));
    }

    /// Returns the ids of the uploads whose payloads are staged.
    pub fn staged(&self) -> Vec<RecordId> {
        self.0.peek().staged.keys().copied().collect()
    }

    /// Sets the content of a producer's object. `None` makes it an object that must not be read.
    pub fn set_source(&self, uri: &str, content: Option<&[u8]>) {
        self.0.peek().sources.insert(uri.to_owned(), content.map(Bytes::copy_from_slice));
    }

    /// Makes look-ups of staged payloads slow, so that calls that begin after them take place before them.
    pub fn slow_down(&self, yields: u32) {
        self.0.peek().yields = yields;
    }

    /// Makes the double report this size of a producer's object, which is too large for a test to have.
    pub fn report_size(&self, uri: &str, size_bytes: u64) {
        self.0.peek().reported_sizes.insert(uri.to_owned(), size_bytes);
    }

    /// Deletes a producer's object.
    pub fn remove_source(&self, uri: &str) {
        self.0.peek().sources.remove(uri);
    }
}

/// The address of an object without its version.
fn address(uri: &SourceUri) -> String {
    format!("s3://{}/{}", uri.bucket, uri.key)
}

fn staged(content: &[u8]) -> StagedPayload {
    let sha256 = Sha256::of(content);
    StagedPayload { etag: sha256.to_string(), sha256: Some(sha256), size_bytes: content.len() as u64 }
}

impl StagingArea for MemoryStagingArea {
    async fn upload_link(&self, upload: &Upload, _: Timestamp) -> Result<UploadLink, StageError> {
        drop(self.0.open().await?);
        Ok(UploadLink {
            method: "PUT".to_owned(),
            url: format!("memory://staging/{}", upload.message_id),
            headers: BTreeMap::new(),
            expires_at: upload.expires_at,
        })
    }

    async fn find(&self, id: RecordId) -> Result<Option<StagedPayload>, StageError> {
        let yields = self.0.peek().yields;
        for _ in 0..yields {
            yield_once().await;
        }
        Ok(self.0.open().await?.staged.get(&id).map(|content| staged(content)))
    }

    async fn inspect(&self, requested: &PayloadReference) -> Result<Option<SourceObject>, StageError> {
        let objects = self.0.open().await?;
        // Every object has the version of its content, as in a bucket with versioning.
        let Some(content) = objects.sources.get(&address(&requested.uri)) else { return Ok(None) };
        let content =
            content.as_ref().ok_or_else(|| StageError::new(ErrorName::AccessDenied, "inspect an object"))?;
        let reported = objects.reported_sizes.get(&address(&requested.uri)).copied();
        Ok(Some(SourceObject {
            uri: SourceUri { version_id: Some(Sha256::of(content).to_string()), ..requested.uri.clone() },
            requested: requested.clone(),
            etag: Sha256::of(content).to_string(),
            size_bytes: reported.unwrap_or(content.len() as u64),
            content_type: Some("image/png".to_owned()),
            sha256: None,
        }))
    }

    async fn copy_in(
        &self,
        upload: &Upload,
        source: &SourceObject,
    ) -> Result<Option<StagedPayload>, StageError> {
        let mut objects = self.0.open().await?;
        let Some(content) = objects.sources.get(&address(&source.uri)).cloned() else { return Ok(None) };
        let content = content.ok_or_else(|| StageError::new(ErrorName::AccessDenied, "copy an object"))?;
        if Sha256::of(&content).to_string() != source.etag {
            return Ok(None);
        }
        objects.staged.insert(upload.message_id, content.clone());
        Ok(Some(staged(&content)))
    }

    async fn archive(
        &self,
        id: RecordId,
        staged: &StagedPayload,
        payload: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let content = self.0.open().await?.staged.get(&id).cloned();
        let content = content.filter(|content| Sha256::of(content).to_string() == staged.etag);
        if let Some(content) = content {
            return self.1.store(&id.archive_key(), content.into(), payload, now).await;
        }
        // A concurrent completion may have archived the payload and removed it from here.
        match self.1.find(&id.archive_key()).await? {
            Some(object) if object.sha256 == payload.sha256 => Ok(object),
            _ => Err(StageError::new(ErrorName::PayloadMissing, "archive a staged payload")),
        }
    }

    async fn remove(&self, id: RecordId) -> Result<(), StageError> {
        self.0.open().await?.staged.remove(&id);
        Ok(())
    }
}
