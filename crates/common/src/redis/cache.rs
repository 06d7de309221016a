//! Records in Redis: a hash `{sNN}:rec:<id>` with payload, message and the number of the run they are for; the pending
//! runs of a shard in the sorted set `{sNN}:pending`, scored by when they became pending; and the claim of an idempotency
//! key in `{sNN}:idem:<sha256>`. All carry the shard as hash tag, so that one transaction covers them in cluster mode
//! too.
//!
//! *Invariant:* a record expires only after its run was settled. Until then nothing but an operator's hand removes it: a
//! cache that fills up refuses, and ingest goes to the archive.

use std::time::Duration;

use custody_core::{
    clock::Timestamp,
    content::{Content, Digested},
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, RedisReference},
    ports::{IdempotencyClaims, PayloadCache, PendingRun, PendingRuns},
    receipt::Durability,
    record_id::{RecordId, SHARDS},
    run::Run,
};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{
    connection::{PasswordSource, RedisConnection},
    payload::{self, Read, Record, Replication},
};

/// How a cache treats its records.
#[derive(Clone, Copy, Debug)]
pub struct CacheSettings {
    /// How many replicas must confirm a record.
    pub wanted_replicas: u32,
    /// How long to wait for them.
    pub replication_timeout: Duration,
    /// How long a payload lives after it was settled.
    pub grace: Duration,
    /// How much longer a payload lives that is to expire although it is pending.
    pub extension: Duration,
    /// How long a producer may repeat a request under its idempotency key.
    pub claim_ttl: Duration,
}

impl CacheSettings {
    /// The settings for a cache whose records `wanted_replicas` replicas must confirm.
    pub const fn with_replicas(wanted_replicas: u32) -> Self {
        Self {
            wanted_replicas,
            replication_timeout: Duration::from_millis(1500),
            grace: Duration::from_mins(5),
            extension: Duration::from_hours(24),
            claim_ttl: Duration::from_hours(24),
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

    /// The number of the run that a record is here for.
    async fn attempt(&self, id: RecordId) -> Result<Option<u32>, StageError> {
        self.connection
            .run(
                || format!("read which run record {id} is cached for"),
                |mut connection| async move {
                    redis::cmd("HGET").arg(record_key(id)).arg("attempt").query_async(&mut connection).await
                },
            )
            .await
    }

    async fn read_payload(&self, id: RecordId) -> Result<Read, StageError> {
        self.connection
            .run_bulk(
                || format!("read the cached payload of record {id}"),
                |mut connection| async move {
                    let read = payload::read(&mut connection, &record_key(id)).await;
                    (connection, read)
                },
            )
            .await
    }
}

fn record_key(id: RecordId) -> String {
    format!("{{s{:02}}}:rec:{id}", id.shard())
}

fn pending_key(shard: u8) -> String {
    format!("{{s{shard:02}}}:pending")
}

fn claim_key(key: &IdempotencyKey) -> String {
    format!("{{s{:02}}}:idem:{key}", key.shard())
}

fn to_json(claim: &Claim) -> String {
    serde_json::to_string(claim).expect("a claim always serializes")
}

fn from_json<T: DeserializeOwned>(what: impl Fn() -> String, text: &str) -> Result<T, StageError> {
    serde_json::from_str(text)
        .map_err(|error| StageError::new(ErrorName::ServiceRefused, what()).caused_by(error))
}

/// How many commands go to the server at once where there are many.
const PIPELINE: usize = 1000;

/// Ends a run: its pending entry, and the record's life after the grace time unless the record is there for a later run.
/// One script, because a later run may begin at any moment.
///
/// Keys: record, pending entries. Arguments: run, its number, grace time in seconds.
const SETTLE: &str = "redis.call('ZREM', KEYS[2], ARGV[1]) \
    local attempt = tonumber(redis.call('HGET', KEYS[1], 'attempt') or '1') \
    if attempt <= tonumber(ARGV[2]) then redis.call('EXPIRE', KEYS[1], ARGV[3]) end";

impl<P: PasswordSource> PayloadCache for RedisCache<P> {
    fn reference(&self, id: RecordId) -> RedisReference {
        RedisReference {
            server: self.connection.host.clone(),
            port: self.connection.port,
            key: record_key(id),
        }
    }

    async fn put(
        &self,
        message: &InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), StageError> {
        let (id, run) = (message.message_id, message.run());
        // Whoever repeats a request, or redelivers an old letter, must not put an old run in a later one's place. A record
        // that is new, which is nearly every one, has no other run.
        if (key.is_some() || run.attempt() > 1)
            && self.attempt(id).await?.is_some_and(|known| known > run.attempt())
        {
            return Ok(());
        }
        let wanted = self.settings.wanted_replicas;
        let timeout_ms = u64::try_from(self.settings.replication_timeout.as_millis()).unwrap_or(u64::MAX);
        let record = Record { key: &record_key(id), pending: &pending_key(id.shard()), message, payload };
        let replication = Replication { wanted, timeout_ms };
        let confirmed = self
            .connection
            .run_bulk(
                || format!("cache record {id}"),
                |mut connection| async move {
                    let confirmed = payload::store(&mut connection, record, replication).await;
                    (connection, confirmed)
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
        // Only now: a claim that says "stored" is a receipt for whoever repeats the request.
        match key {
            Some(key) => {
                self.confirm(
                    key,
                    &Claim::new(id, &message.with_payload(payload).payload).stored(Durability::Replicated),
                )
                .await
            }
            None => Ok(()),
        }
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Digested>, StageError> {
        if let Read::Payload(payload) = self.read_payload(id).await? {
            return Ok(Some(payload));
        }
        // A connection to a primary that has become a replica reads what that replica has, which is nothing at all while it
        // copies from its new primary. Before a payload counts as gone, a primary must say so, on a new connection.
        self.connection.forget().await;
        match self.read_payload(id).await? {
            Read::Payload(payload) => Ok(Some(payload)),
            Read::Nothing { by_primary: true } => Ok(None),
            Read::Nothing { by_primary: false } => Err(StageError::new(
                ErrorName::CacheUnavailable,
                format!("read the cached payload of record {id}: a replica answers in the primary's place"),
            )),
        }
    }

    async fn settle(&self, run: Run) -> Result<(), StageError> {
        let id = run.record;
        self.connection
            .run(
                || format!("settle run {run}"),
                |mut connection| async move {
                    redis::cmd("EVAL")
                        .arg(SETTLE)
                        .arg(2)
                        .arg(record_key(id))
                        .arg(pending_key(id.shard()))
                        .arg(run.to_string())
                        .arg(run.attempt())
                        .arg(self.settings.grace.as_secs())
                        .query_async(&mut connection)
                        .await
                },
            )
            .await
    }

    /// `GT` leaves alone what does not expire at all, which is what pending payloads do not.
    async fn extend(&self, records: &[RecordId]) -> Result<(), StageError> {
        for records in records.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for id in records {
                pipeline
                    .cmd("EXPIRE")
                    .arg(record_key(*id))
                    .arg(self.settings.extension.as_secs())
                    .arg("GT")
                    .ignore();
            }
            self.connection
                .run(
                    || format!("extend the life of {} records", records.len()),
                    |mut connection| {
                        let pipeline = &pipeline;
                        async move { pipeline.query_async::<()>(&mut connection).await }
                    },
                )
                .await?;
        }
        Ok(())
    }
}

impl<P: PasswordSource> PendingRuns for RedisCache<P> {
    async fn pending(&self, limit: usize) -> Result<Vec<PendingRun>, StageError> {
        // Records are spread evenly over the shards.
        let Some(last) = limit.div_ceil(usize::from(SHARDS)).checked_sub(1) else { return Ok(Vec::new()) };
        let mut pending = Vec::new();
        for shard in 0..SHARDS {
            let entries: Vec<(String, f64)> = self
                .connection
                .run(
                    || format!("read the pending entries of shard {shard}"),
                    |mut connection| async move {
                        redis::cmd("ZRANGE")
                            .arg(pending_key(shard))
                            .arg(0)
                            .arg(last)
                            .arg("WITHSCORES")
                            .query_async(&mut connection)
                            .await
                    },
                )
                .await?;
            for (name, score) in entries {
                #[expect(clippy::cast_possible_truncation, reason = "milliseconds are exact in a double")]
                let since = Timestamp::from_unix_ms(score as i64);
                if let (Ok(run), Some(since)) = (name.parse(), since) {
                    pending.push(PendingRun { run, since });
                } else {
                    warn!(shard, name, score, "a pending entry is not Custody's");
                }
            }
        }
        Ok(pending)
    }

    async fn message(&self, run: Run) -> Result<Option<InternalMessage>, StageError> {
        let operation = || format!("read the message of record {}", run.record);
        let text: Option<String> = self
            .connection
            .run(operation, |mut connection| async move {
                redis::cmd("HGET")
                    .arg(record_key(run.record))
                    .arg("message")
                    .query_async(&mut connection)
                    .await
            })
            .await?;
        text.map(|text| from_json(operation, &text)).transpose()
    }
}

impl<P: PasswordSource> IdempotencyClaims for RedisCache<P> {
    async fn claim(&self, key: &IdempotencyKey, claim: &Claim) -> Result<Claim, StageError> {
        let operation = || format!("claim an idempotency key for record {}", claim.message_id);
        let text = to_json(claim);
        let held: Option<String> = self
            .connection
            .run(operation, |mut connection| {
                let text = &text;
                async move {
                    redis::cmd("SET")
                        .arg(claim_key(key))
                        .arg(text)
                        .arg(&["NX", "GET", "EX"])
                        .arg(self.settings.claim_ttl.as_secs())
                        .query_async(&mut connection)
                        .await
                }
            })
            .await?;
        held.map_or_else(|| Ok(claim.clone()), |text| from_json(operation, &text))
    }

    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        let operation = || "look up an idempotency key".to_owned();
        let text: Option<String> = self
            .connection
            .run(operation, |mut connection| async move {
                redis::cmd("GET").arg(claim_key(key)).query_async(&mut connection).await
            })
            .await?;
        text.map(|text| from_json(operation, &text)).transpose()
    }

    async fn confirm(&self, key: &IdempotencyKey, claim: &Claim) -> Result<(), StageError> {
        let text = to_json(claim);
        self.connection
            .run(
                || format!("confirm the claim of record {}", claim.message_id),
                |mut connection| {
                    let text = &text;
                    async move {
                        redis::cmd("SET")
                            .arg(claim_key(key))
                            .arg(text)
                            .arg("EX")
                            .arg(self.settings.claim_ttl.as_secs())
                            .query_async(&mut connection)
                            .await
                    }
                },
            )
            .await
    }
}
