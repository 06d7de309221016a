//! The adapter of the port `PayloadCache` on a cluster.

use std::{io, sync::Arc};

use bytes::Bytes;
use custody_core::{
    error::{ErrorName, StageError},
    message::RedisReference,
    payload_source::{PayloadSource, Pieces, open_on_first_read},
    ports::PayloadCache,
    receipt::Durability,
    record_id::RecordId,
};
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout_at;

use crate::{
    breaker::PauseReason,
    bulk::{BulkConnection, Incoming},
    cluster::Cluster,
    connection::ClusterConnection,
    credentials::CredentialSource,
    node::Node,
    payload::{BeginFetch, Fetch, Persist, Size, Store, Unlink},
    routing::RoutedAnswer,
    settings::CacheSettings,
    slot::slot_of,
};

/// The payload cache on a cluster. It opens no connection before the first call.
#[derive(Debug)]
pub struct ClusterCache<C> {
    cluster: Arc<Cluster<C>>,
}

impl<C> Clone for ClusterCache<C> {
    fn clone(&self) -> Self {
        Self { cluster: Arc::clone(&self.cluster) }
    }
}

impl<C: CredentialSource> ClusterCache<C> {
    /// Creates the cache on the cluster at `connection`.
    pub fn new(connection: ClusterConnection<C>, settings: CacheSettings) -> Self {
        Self { cluster: Arc::new(Cluster::new(connection, settings)) }
    }
}

impl<C: CredentialSource> ClusterCache<C> {
    /// Stores a payload. If too few replicas confirm it and a second node reports that the primary was replaced, the
    /// payload is stored again on the new primary: the replicas of a replaced primary never confirm, but those of its
    /// successor may.
    async fn store(&self, id: RecordId, payload: &[u8]) -> Result<(), StageError> {
        let (key, settings) = (id.cache_key(), self.cluster.settings);
        let (slot, wanted) = (slot_of(key.as_bytes()), settings.level.replicas());
        let store = Store { key: &key, payload, settings };
        let deadline = self.cluster.deadline();
        loop {
            let RoutedAnswer { answer: confirmed, node, owner } =
                self.cluster.call_until(deadline, slot, || storing(id), &store).await?;
            if confirmed >= wanted {
                node.breaker.close();
                return Ok(());
            }
            node.breaker.open(PauseReason::TooFewReplicas, settings.breaker_pause);
            if let Ok(Ok(false)) = timeout_at(deadline, self.cluster.confirms_owner(slot, &owner)).await {
                continue;
            }
            let limit_ms = settings.replication_timeout.as_millis();
            let short = format!("{confirmed} of {wanted} replicas confirmed it within {limit_ms} ms");
            return Err(StageError::new(ErrorName::CacheUnavailable, format!("{}: {short}", storing(id))));
        }
    }
}

fn storing(id: RecordId) -> String {
    format!("cache the payload of record {id}")
}

/// Begins to read a payload, and returns its size and the stream of its pieces. `None` if the cache has no payload of
/// the record.
async fn begin<C: CredentialSource + 'static>(
    cluster: &Cluster<C>,
    id: RecordId,
) -> Result<Option<(u64, Pieces)>, StageError> {
    let key = id.cache_key();
    let operation = || format!("read the cached payload of record {id}");
    let slot = slot_of(key.as_bytes());
    let begun = cluster.call_confirming_absence(slot, operation, &BeginFetch(&key), Option::is_none).await?;
    let RoutedAnswer { answer: Some((connection, incoming)), node, .. } = begun else { return Ok(None) };
    let size_bytes = incoming.length as u64;
    let read = async |(connection, mut incoming, node): (Option<BulkConnection>, Incoming, Arc<Node>)| {
        let Some(mut connection) = connection else { return Ok(None) };
        let Some(piece) = connection.next_piece(&mut incoming).await.map_err(io::Error::other)? else {
            return Ok(None);
        };
        // The connection is put back together with the last piece, not after it: a reader that knows the size polls the
        // stream no further.
        let connection = if incoming.is_complete() {
            node.put_back(connection);
            None
        } else {
            Some(connection)
        };
        Ok(Some((piece, (connection, incoming, node))))
    };
    Ok(Some((size_bytes, stream::try_unfold((Some(connection), incoming, node), read).boxed())))
}

impl<C: CredentialSource + 'static> PayloadCache for ClusterCache<C> {
    fn reference(&self, id: RecordId) -> RedisReference {
        let seed = &self.cluster.seed;
        RedisReference { server: seed.host.clone(), port: seed.port, key: id.cache_key() }
    }

    fn durability(&self) -> Durability {
        self.cluster.settings.level.durability()
    }

    async fn put(&self, id: RecordId, payload: Bytes) -> Result<(), StageError> {
        if !self.cluster.settings.accepts_payloads {
            let closed = format!("{}: the cache is closed to new payloads", storing(id));
            return Err(StageError::new(ErrorName::CacheUnavailable, closed));
        }
        self.store(id, &payload).await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        let key = id.cache_key();
        let operation = || format!("read the cached payload of record {id}");
        let slot = slot_of(key.as_bytes());
        let answered =
            self.cluster.call_confirming_absence(slot, operation, &Fetch(&key), Option::is_none).await?;
        Ok(answered.answer)
    }

    async fn source(&self, id: RecordId) -> Result<Option<PayloadSource>, StageError> {
        let Some((size_bytes, pieces)) = begin(&self.cluster, id).await? else { return Ok(None) };
        let cluster = Arc::clone(&self.cluster);
        let again = move || {
            let cluster = Arc::clone(&cluster);
            open_on_first_read(async move {
                Ok::<_, StageError>(begin(&cluster, id).await?.map(|(_, pieces)| pieces))
            })
        };
        Ok(Some(PayloadSource::new(size_bytes, pieces, again)))
    }

    async fn size(&self, id: RecordId) -> Result<Option<u64>, StageError> {
        let key = id.cache_key();
        let operation = || format!("read the size of the cached payload of record {id}");
        let slot = slot_of(key.as_bytes());
        let answered =
            self.cluster.call_confirming_absence(slot, operation, &Size(&key), Option::is_none).await?;
        Ok(answered.answer)
    }

    async fn persist(&self, id: RecordId) -> Result<bool, StageError> {
        let key = id.cache_key();
        let operation = || format!("remove the expiry of the cached payload of record {id}");
        let slot = slot_of(key.as_bytes());
        let answered = self
            .cluster
            .call_confirming_absence(slot, operation, &Persist(&key), |is_there| !is_there)
            .await?;
        Ok(answered.answer)
    }

    async fn unlink(&self, id: RecordId) -> Result<(), StageError> {
        let key = id.cache_key();
        let operation = || format!("remove the cached payload of record {id}");
        self.cluster.call(slot_of(key.as_bytes()), operation, &Unlink(&key)).await.map(drop)
    }
}
