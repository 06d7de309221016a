//! The port of the cache, with faults.

use std::sync::Arc;

use bytes::Bytes;
use custody_core::{
    error::StageError,
    message::RedisReference,
    payload_source::{PayloadSource, open_on_first_read},
    ports::PayloadCache,
    receipt::Durability,
    record_id::RecordId,
};

use super::Faulty;
use crate::{faults::Service, world::World};

impl PayloadCache for Faulty {
    fn reference(&self, id: RecordId) -> RedisReference {
        self.world.stores.cache.reference(id)
    }

    fn durability(&self) -> Durability {
        self.world.stores.cache.durability()
    }

    async fn put(&self, id: RecordId, payload: &[u8]) -> Result<(), StageError> {
        let payload = payload.to_vec();
        self.effect(
            Service::Cache,
            "put",
            move |world| async move { world.stores.cache.put(id, &payload).await },
        )
        .await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        let read = move |world: Arc<World>| async move { world.stores.cache.payload(id).await };
        self.effect(Service::Cache, "payload", read).await
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        let find = move |world: Arc<World>| async move { world.stores.cache.source(id).await };
        let Some(found) = self.effect(Service::Cache, "source", find).await? else { return Ok(None) };
        // Reading the pieces is a separate effect, which may fail after half of the payload was read.
        let ports = self.clone();
        let read = move || {
            let ports = ports.clone();
            open_on_first_read(async move {
                let pieces = move |world: Arc<World>| async move {
                    Ok(world.stores.cache.source(id).await?.map(|source| source.pieces()))
                };
                ports.effect(Service::Cache, "read pieces", pieces).await
            })
        };
        Ok(Some(PayloadSource::new(found.size_bytes(), read(), read)))
    }

    async fn size(&self, id: RecordId) -> Result<Option<u64>, StageError> {
        let read = move |world: Arc<World>| async move { world.stores.cache.size(id).await };
        self.effect(Service::Cache, "size", read).await
    }

    async fn persist(&self, id: RecordId) -> Result<bool, StageError> {
        self.effect(
            Service::Cache,
            "persist",
            move |world| async move { world.stores.cache.persist(id).await },
        )
        .await
    }

    async fn unlink(&self, id: RecordId) -> Result<(), StageError> {
        self.effect(Service::Cache, "unlink", move |world| async move { world.stores.cache.unlink(id).await })
            .await
    }
}
