//! The upload table and the staging area, intercepted.

use super::{Intercepted, Interceptor};
use crate::{
    clock::Timestamp,
    error::StageError,
    idempotency::IdempotencyKey,
    message::PayloadDescriptor,
    ports::{
        ArchivedObject,
        PortName::{StagingArea as Staging, Uploads as UploadTable},
        StagedPayload, StagingArea, UploadLink, Uploads,
    },
    record_id::RecordId,
    upload::{PayloadReference, SourceObject, Upload},
};

impl<P: Uploads + Clone + 'static, I: Interceptor> Uploads for Intercepted<P, I> {
    async fn begin(&self, upload: &Upload, now: Timestamp) -> Result<Upload, StageError> {
        let (id, upload) = (upload.message_id, upload.clone());
        self.call(UploadTable, "begin", id, |port| async move { port.begin(&upload, now).await }).await
    }

    async fn of_key(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<Upload>, StageError> {
        let key = *key;
        self.call(UploadTable, "of_key", None, |port| async move { port.of_key(&key, now).await }).await
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StageError> {
        let (id, upload) = (upload.message_id, upload.clone());
        self.call(UploadTable, "abandon", id, |port| async move { port.abandon(&upload).await }).await
    }

    async fn lease(&self, id: RecordId, until: Timestamp, now: Timestamp) -> Result<bool, StageError> {
        self.call(UploadTable, "lease", id, |port| async move { port.lease(id, until, now).await }).await
    }

    async fn end_lease(&self, id: RecordId, until: Timestamp) -> Result<(), StageError> {
        self.call(UploadTable, "end_lease", id, |port| async move { port.end_lease(id, until).await }).await
    }

    async fn find(&self, id: RecordId) -> Result<Option<Upload>, StageError> {
        self.call(UploadTable, "find", id, |port| async move { port.find(id).await }).await
    }
}

impl<P: StagingArea + Clone + 'static, I: Interceptor> StagingArea for Intercepted<P, I> {
    async fn upload_link(&self, upload: &Upload, now: Timestamp) -> Result<UploadLink, StageError> {
        let (id, upload) = (upload.message_id, upload.clone());
        let sign = |port: P| async move { port.upload_link(&upload, now).await };
        self.call(Staging, "upload_link", id, sign).await
    }

    async fn find(&self, id: RecordId) -> Result<Option<StagedPayload>, StageError> {
        self.call(Staging, "find", id, |port| async move { port.find(id).await }).await
    }

    async fn inspect(&self, requested: &PayloadReference) -> Result<Option<SourceObject>, StageError> {
        let requested = requested.clone();
        self.call(Staging, "inspect", None, |port| async move { port.inspect(&requested).await }).await
    }

    async fn copy_in(
        &self,
        upload: &Upload,
        source: &SourceObject,
    ) -> Result<Option<StagedPayload>, StageError> {
        let (id, upload, source) = (upload.message_id, upload.clone(), source.clone());
        let copy = |port: P| async move { port.copy_in(&upload, &source).await };
        self.call(Staging, "copy_in", id, copy).await
    }

    async fn archive(
        &self,
        id: RecordId,
        staged: &StagedPayload,
        payload: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let (staged, payload) = (staged.clone(), payload.clone());
        let archive = |port: P| async move { port.archive(id, &staged, &payload, now).await };
        self.call(Staging, "archive", id, archive).await
    }

    async fn remove(&self, id: RecordId) -> Result<(), StageError> {
        self.call(Staging, "remove", id, |port| async move { port.remove(id).await }).await
    }
}
