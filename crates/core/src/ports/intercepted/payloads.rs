//! The stores of payloads, intercepted: cache, archive and failed bucket.

use std::sync::Arc;

use bytes::Bytes;

use super::{Call, Intercepted, Interceptor};
use crate::{
    attempt::Attempt,
    clock::Timestamp,
    error::StageError,
    manifest::Manifest,
    message::{PayloadDescriptor, RedisReference, S3Reference},
    payload_source::{PayloadSource, open_on_first_read},
    ports::{
        ArchivedObject, FailedStore, PayloadArchive, PayloadCache,
        PortName::{self, FailedBucket, PayloadArchive as Archive, PayloadCache as Cache},
    },
    receipt::Durability,
    record_id::RecordId,
};

impl<P: PayloadCache + Clone + 'static, I: Interceptor> PayloadCache for Intercepted<P, I> {
    fn reference(&self, id: RecordId) -> RedisReference {
        self.port.reference(id)
    }

    fn durability(&self) -> Durability {
        self.port.durability()
    }

    async fn put(&self, id: RecordId, payload: Bytes) -> Result<(), StageError> {
        self.call(Cache, "put", id, |port| async move { port.put(id, payload).await }).await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        self.call(Cache, "payload", id, |port| async move { port.payload(id).await }).await
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        let found = self.call(Cache, "source", id, |port| async move { port.source(id).await }).await?;
        Ok(found.map(|source| read_through(&self.interceptor, Cache, Some(id), source)))
    }

    async fn size(&self, id: RecordId) -> Result<Option<u64>, StageError> {
        self.call(Cache, "size", id, |port| async move { port.size(id).await }).await
    }

    async fn persist(&self, id: RecordId) -> Result<bool, StageError> {
        self.call(Cache, "persist", id, |port| async move { port.persist(id).await }).await
    }

    async fn unlink(&self, id: RecordId) -> Result<(), StageError> {
        self.call(Cache, "unlink", id, |port| async move { port.unlink(id).await }).await
    }
}

impl<P: PayloadArchive + Clone + 'static, I: Interceptor> PayloadArchive for Intercepted<P, I> {
    async fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let (key, descriptor) = (key.to_owned(), descriptor.clone());
        let store = |port: P| async move { port.store(&key, payload, &descriptor, now).await };
        self.call(Archive, "store", None, store).await
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        let key = key.to_owned();
        self.call(Archive, "find", None, |port| async move { port.find(&key).await }).await
    }

    async fn store_manifest(&self, manifest: &Manifest) -> Result<(), StageError> {
        let (manifest, record) = (manifest.clone(), manifest.message.message_id);
        let store = |port: P| async move { port.store_manifest(&manifest).await };
        self.call(Archive, "store manifest", record, store).await
    }

    async fn manifest(&self, attempt: Attempt) -> Result<Option<Manifest>, StageError> {
        let read = |port: P| async move { port.manifest(attempt).await };
        self.call(Archive, "manifest", attempt.record, read).await
    }
}

impl<P: FailedStore + Clone + 'static, I: Interceptor> FailedStore for Intercepted<P, I> {
    async fn preserve(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        let key = key.to_owned();
        self.call(FailedBucket, "preserve", None, |port| async move { port.preserve(&key, content).await })
            .await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        let key = key.to_owned();
        self.call(FailedBucket, "fetch", None, |port| async move { port.fetch(&key).await }).await
    }

    async fn source(&self, key: &str) -> Result<Option<PayloadSource>, StageError> {
        let key = key.to_owned();
        let find = |port: P| async move { port.source(&key).await };
        let found = self.call(FailedBucket, "source", None, find).await?;
        Ok(found.map(|source| read_through(&self.interceptor, FailedBucket, None, source)))
    }

    async fn find(&self, key: &str) -> Result<Option<S3Reference>, StageError> {
        let key = key.to_owned();
        self.call(FailedBucket, "find", None, |port| async move { port.find(&key).await }).await
    }
}

/// Returns the payload with every read of its pieces intercepted, as a call of its own: a read may fail although the
/// payload was found.
fn read_through<I: Interceptor>(
    interceptor: &I,
    port: PortName,
    record: Option<RecordId>,
    found: PayloadSource,
) -> PayloadSource {
    let (interceptor, found) = (interceptor.clone(), Arc::new(found));
    let size_bytes = found.size_bytes();
    let read = move || {
        let (interceptor, found) = (interceptor.clone(), Arc::clone(&found));
        let call = Call { port, operation: "read pieces", record };
        open_on_first_read(
            async move { interceptor.call(call, async move { Ok(Some(found.pieces())) }).await },
        )
    };
    PayloadSource::new(size_bytes, read(), read)
}
