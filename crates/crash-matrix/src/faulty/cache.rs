//! The cache behind faults.

use bytes::Bytes;
use custody_core::{
    error::StageError, message::RedisReference, payload_source::PayloadSource, ports::PayloadCache,
    receipt::Durability, record_id::RecordId,
};

use super::Faulty;
use crate::faults::Service;

impl PayloadCache for Faulty {
    fn reference(&self, id: RecordId) -> RedisReference {
        (&self.world.stores.cache).reference(id)
    }

    fn durability(&self) -> Durability {
        (&self.world.stores.cache).durability()
    }

    async fn put(&self, id: RecordId, payload: &[u8]) -> Result<(), StageError> {
        let payload = payload.to_vec();
        self.effect(Service::Cache, "put", move |world| async move {
            (&world.stores.cache).put(id, &payload).await
        })
        .await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        let read = move |world: std::sync::Arc<crate::world::World>| async move {
            (&world.stores.cache).payload(id).await
        };
        self.effect(Service::Cache, "payload", read).await
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        let read = move |world: std::sync::Arc<crate::world::World>| async move {
            (&world.stores.cache).source(id).await
        };
        self.effect(Service::Cache, "source", read).await
    }

    async fn size(&self, id: RecordId) -> Result<Option<u64>, StageError> {
        let read = move |world: std::sync::Arc<crate::world::World>| async move {
            (&world.stores.cache).size(id).await
        };
        self.effect(Service::Cache, "size", read).await
    }

    async fn persist(&self, id: RecordId) -> Result<bool, StageError> {
        self.effect(
            Service::Cache,
            "persist",
            move |world| async move { (&world.stores.cache).persist(id).await },
        )
        .await
    }

    async fn unlink(&self, id: RecordId) -> Result<(), StageError> {
        self.effect(
            Service::Cache,
            "unlink",
            move |world| async move { (&world.stores.cache).unlink(id).await },
        )
        .await
    }
}
