//! The ports of buckets, markers and the record table, with faults.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::{ErrorName, StageError},
    message::{InternalMessage, PayloadDescriptor, S3Reference},
    open_record::OpenRecord,
    payload_source::{PayloadSource, open_on_first_read},
    ports::{
        AcceptanceMarkers, ArchivedObject, CompletionTimes, Discard, FailedItem, FailedStore, ItemState,
        PayloadArchive, RecordTable, StoredMetadata,
    },
    record_id::RecordId,
};
use futures_util::TryStreamExt as _;

use super::Faulty;
use crate::{faults::Service, watch, world::World};

impl PayloadArchive for Faulty {
    async fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        // The process has sent all bytes before the archive does anything with them, even if the effect is late.
        let sent: Vec<Bytes> = payload.pieces().try_collect().await.map_err(|error| {
            StageError::new(ErrorName::ArchiveUnavailable, "send a payload").caused_by(error)
        })?;
        let (key, descriptor, sent) = (key.to_owned(), descriptor.clone(), Bytes::from(sent.concat()));
        self.effect(Service::Archive, "store", move |world| async move {
            world.stores.archive.store(&key, sent.into(), &descriptor, now).await
        })
        .await
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        let key = key.to_owned();
        self.effect(Service::Archive, "find", move |world| async move {
            PayloadArchive::find(&world.stores.archive, &key).await
        })
        .await
    }
}

impl FailedStore for Faulty {
    async fn preserve(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        let key = key.to_owned();
        self.effect(Service::FailedBucket, "keep", move |world| async move {
            world.stores.failed_store.preserve(&key, content).await
        })
        .await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        let key = key.to_owned();
        self.effect(Service::FailedBucket, "fetch", move |world| async move {
            world.stores.failed_store.fetch(&key).await
        })
        .await
    }

    async fn source(&self, key: &str) -> Result<Option<PayloadSource>, StageError> {
        let key: Arc<str> = key.into();
        let wanted = Arc::clone(&key);
        let find = move |world: Arc<World>| async move { world.stores.failed_store.source(&wanted).await };
        let Some(found) = self.effect(Service::FailedBucket, "source", find).await? else { return Ok(None) };
        let ports = self.clone();
        let read = move || {
            let (ports, key) = (ports.clone(), Arc::clone(&key));
            open_on_first_read(async move {
                let pieces = move |world: Arc<World>| async move {
                    Ok(world.stores.failed_store.source(&key).await?.map(|source| source.pieces()))
                };
                ports.effect(Service::FailedBucket, "read pieces", pieces).await
            })
        };
        Ok(Some(PayloadSource::new(found.size_bytes(), read(), read)))
    }

    async fn find(&self, key: &str) -> Result<Option<S3Reference>, StageError> {
        let key = key.to_owned();
        self.effect(Service::FailedBucket, "find", move |world| async move {
            FailedStore::find(&world.stores.failed_store, &key).await
        })
        .await
    }
}

impl AcceptanceMarkers for Faulty {
    async fn mark(&self, record: &OpenRecord) -> Result<(), StageError> {
        let record = record.clone();
        self.effect(Service::Markers, "mark", move |world| async move {
            world.stores.markers.mark(&record).await?;
            watch::check_marker(&world, &record);
            Ok(())
        })
        .await
    }

    async fn list(&self, limit: usize) -> Result<Vec<Attempt>, StageError> {
        self.effect(Service::Markers, "list", move |world| async move {
            AcceptanceMarkers::list(&world.stores.markers, limit).await
        })
        .await
    }

    async fn find(&self, attempt: Attempt) -> Result<Option<OpenRecord>, StageError> {
        self.effect(Service::Markers, "find", move |world| async move {
            AcceptanceMarkers::find(&world.stores.markers, attempt).await
        })
        .await
    }

    async fn clear(&self, attempt: Attempt) -> Result<(), StageError> {
        self.effect(Service::Markers, "clear", move |world| async move {
            world.stores.markers.clear(attempt).await
        })
        .await
    }
}

impl RecordTable for Faulty {
    async fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> Result<StoredMetadata, StageError> {
        let message = message.clone();
        self.effect(Service::RecordTable, "put received", move |world| async move {
            world.stores.record_table.put_received(&message, stored_at).await
        })
        .await
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        let message = message.clone();
        self.effect(Service::RecordTable, "complete", move |world| async move {
            let completed = world.stores.record_table.complete(&message, times).await?;
            watch::check_completion(&world, &message);
            Ok(completed)
        })
        .await
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        let (message, failure) = (message.clone(), failure.clone());
        self.effect(Service::RecordTable, "fail", move |world| async move {
            let failed = RecordTable::fail(&world.stores.record_table, &message, &failure).await?;
            world.ledger().counts.add("failed item", format!("{failed:?}"));
            Ok(failed)
        })
        .await
    }

    async fn discard(&self, attempt: Attempt, discard: &Discard) -> Result<bool, StageError> {
        let discard = discard.clone();
        self.effect(Service::RecordTable, "discard", move |world| async move {
            let is_discarded = world.stores.record_table.discard(attempt, &discard).await?;
            if is_discarded {
                watch::note_discard(&world, attempt);
            }
            Ok(is_discarded)
        })
        .await
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        let records = records.to_vec();
        self.effect(Service::RecordTable, "states", move |world| async move {
            world.stores.record_table.states(&records).await
        })
        .await
    }
}
