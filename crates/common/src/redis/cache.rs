//! Records in Redis: a hash `{sNN}:rec:<id>` with payload and message, and the pending entries of a shard in the
//! sorted set `{sNN}:pending`. Both keys carry the shard as hash tag, so that one transaction covers them in cluster
//! mode too.

use std::time::Duration;

use bytes::Bytes;
use custody_core::{
    error::{ErrorName, StageError},
    message::{InternalMessage, RedisReference},
    ports::PayloadCache,
    record_id::RecordId,
};

use super::connection::{PasswordSource, RedisConnection};

/// How a cache treats its records.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// How many replicas must confirm a record.
    pub wanted_replicas: u32,
    /// How long to wait for them.
    pub replication_timeout: Duration,
    /// How long a payload lives when nobody settles it.
    pub payload_ttl: Duration,
    /// How long a payload lives after it was settled.
    pub grace: Duration,
}

impl CacheSettings {
    /// The settings for a cache whose records `wanted_replicas` replicas must confirm.
    pub const fn with_replicas(wanted_replicas: u32) -> Self {
        Self {
            wanted_replicas,
            replication_timeout: Duration::from_millis(1500),
            payload_ttl: Duration::from_hours(24),
            grace: Duration::from_mins(5),
        }
    }
}

/// The cache.
#[derive(Debug)]
pub struct RedisCache<P> {
    connection: RedisConnection<P>,
    settings: CacheSettings,
}

impl<P: PasswordSource> RedisCache<P> {
    /// The cache behind `connection`.
    pub fn new(connection: RedisConnection<P>, settings: CacheSettings) -> Self {
        Self { connection, settings }
    }

    async fn read_payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        self.connection
            .run(
                || format!("read the cached payload of record {id}"),
                |mut connection| async move {
                    redis::cmd("HGET").arg(record_key(id)).arg("payload").query_async(&mut connection).await
                },
            )
            .await
    }
}

fn record_key(id: RecordId) -> String {
    format!("{{s{:02}}}:rec:{id}", id.shard())
}

fn pending_key(id: RecordId) -> String {
    format!("{{s{:02}}}:pending", id.shard())
}

impl<P: PasswordSource> PayloadCache for RedisCache<P> {
    fn reference(&self, id: RecordId) -> RedisReference {
        RedisReference {
            server: self.connection.host.clone(),
            port: self.connection.port,
            key: record_key(id),
        }
    }

    async fn put(&self, message: &InternalMessage, payload: &[u8]) -> Result<(), StageError> {
        let id = message.message_id;
        let mut transaction = redis::pipe();
        transaction
            .atomic()
            .cmd("HSET")
            .arg(record_key(id))
            .arg("message")
            .arg(message.to_json())
            .arg("payload")
            .arg(payload)
            .ignore()
            .cmd("EXPIRE")
            .arg(record_key(id))
            .arg(self.settings.payload_ttl.as_secs())
            .ignore()
            .cmd("ZADD")
            .arg(pending_key(id))
            .arg(message.received_at.unix_ms())
            .arg(id.to_string())
            .ignore();
        let wanted = self.settings.wanted_replicas;
        let timeout_ms = u64::try_from(self.settings.replication_timeout.as_millis()).unwrap_or(u64::MAX);
        // WAIT speaks of the writes of its own connection, so both are one call: if the connection dies in
        // between, both run again.
        let confirmed: u32 = self
            .connection
            .run(
                || format!("cache record {id}"),
                |mut connection| {
                    let transaction = &transaction;
                    async move {
                        transaction.query_async::<()>(&mut connection).await?;
                        if wanted == 0 {
                            return Ok(0);
                        }
                        redis::cmd("WAIT").arg(wanted).arg(timeout_ms).query_async(&mut connection).await
                    }
                },
            )
            .await?;
        if confirmed < wanted {
            return Err(StageError::new(
                ErrorName::CacheUnavailable,
                format!(
                    "cache record {id}: {confirmed} of {wanted} replicas confirmed it within {timeout_ms} ms"
                ),
            ));
        }
        Ok(())
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Bytes>, StageError> {
        if let Some(payload) = self.read_payload(id).await? {
            return Ok(Some(payload));
        }
        // A connection to a primary that has become a replica reads what that replica has. Before a payload counts as
        // gone, a new connection is asked.
        self.connection.forget().await;
        self.read_payload(id).await
    }

    async fn settle(&self, id: RecordId) -> Result<(), StageError> {
        let mut transaction = redis::pipe();
        transaction
            .atomic()
            .cmd("ZREM")
            .arg(pending_key(id))
            .arg(id.to_string())
            .ignore()
            .cmd("EXPIRE")
            .arg(record_key(id))
            .arg(self.settings.grace.as_secs())
            .ignore();
        self.connection
            .run(
                || format!("settle record {id}"),
                |mut connection| {
                    let transaction = &transaction;
                    async move { transaction.query_async(&mut connection).await }
                },
            )
            .await
    }
}
