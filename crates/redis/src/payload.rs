//! The exchanges that store, read, measure, persist and remove a payload.

use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, RedisResult, Value, cmd};

use crate::{
    bulk::{Batch, BulkConnection, Incoming, unexpected},
    node::Exchange,
    settings::CacheSettings,
};

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Stores a payload. The answer is the number of replicas that confirmed it.
pub(crate) struct Store<'a> {
    pub(crate) key: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) settings: CacheSettings,
}

impl Exchange for Store<'_> {
    type Answer = u32;

    const SENDS_PAYLOAD: bool = true;

    async fn run(&self, connection: &mut BulkConnection, asking: bool) -> RedisResult<u32> {
        let CacheSettings { level, replication_timeout, time_to_live, .. } = self.settings;
        let ttl = milliseconds(time_to_live).to_string();
        let mut batch = Batch::new(asking);
        batch.keyed_with_payload(&[b"SET", self.key.as_bytes()], self.payload, &[b"PX", ttl.as_bytes()]);
        let wanted = level.replicas();
        if wanted > 0 {
            // `WAIT` counts the confirmations of writes on the same connection, so it must follow `SET` on this
            // connection. If the connection dies between the two, both commands are repeated.
            let wait = milliseconds(replication_timeout);
            batch.plain(cmd("WAIT").arg(wanted).arg(wait), replication_timeout);
        }
        match connection.run(&batch).await?.as_slice() {
            [Value::Okay] if wanted == 0 => Ok(0),
            [Value::Okay, Value::Int(confirmed)] if wanted > 0 => {
                u32::try_from(*confirmed).map_err(|_| unexpected(&[Value::Int(*confirmed)]))
            }
            answers => Err(unexpected(answers)),
        }
    }
}

/// Reads a payload.
pub(crate) struct Fetch<'a>(pub(crate) &'a str);

impl Exchange for Fetch<'_> {
    type Answer = Option<Bytes>;

    async fn run(&self, connection: &mut BulkConnection, asking: bool) -> RedisResult<Self::Answer> {
        if asking {
            connection.ask(&cmd("ASKING")).await?;
        }
        connection.fetch(cmd("GET").arg(self.0)).await
    }
}

/// Begins to read a payload, and takes ownership of the connection that the payload arrives on.
pub(crate) struct BeginFetch<'a>(pub(crate) &'a str);

impl Exchange for BeginFetch<'_> {
    type Answer = Option<(BulkConnection, Incoming)>;

    async fn run(&self, connection: &mut BulkConnection, asking: bool) -> RedisResult<Self::Answer> {
        if asking {
            connection.ask(&cmd("ASKING")).await?;
        }
        let incoming = connection.begin_fetch(cmd("GET").arg(self.0)).await?;
        Ok(incoming.map(|incoming| (connection.detach(), incoming)))
    }
}

/// Reads a payload's size.
pub(crate) struct Size<'a>(pub(crate) &'a str);

impl Exchange for Size<'_> {
    type Answer = Option<u64>;

    /// Runs `STRLEN`, then `EXISTS`. `STRLEN` answers 0 for an absent key, so a second command must ask whether the key
    /// exists. The order matters: a payload that is removed between the two commands is reported as absent, not as
    /// empty.
    async fn run(&self, connection: &mut BulkConnection, asking: bool) -> RedisResult<Self::Answer> {
        let [length, exists] =
            numbers(connection, asking, [cmd("STRLEN").arg(self.0), cmd("EXISTS").arg(self.0)]).await?;
        Ok((exists > 0).then_some(length))
    }
}

/// Removes the expiry of a payload. The answer is whether the payload exists.
pub(crate) struct Persist<'a>(pub(crate) &'a str);

impl Exchange for Persist<'_> {
    type Answer = bool;

    /// Runs `PERSIST`, then `EXISTS`. `PERSIST` answers 0 also for a key without expiry, so a second command must ask
    /// whether the key exists.
    async fn run(&self, connection: &mut BulkConnection, asking: bool) -> RedisResult<bool> {
        let [_, exists] =
            numbers(connection, asking, [cmd("PERSIST").arg(self.0), cmd("EXISTS").arg(self.0)]).await?;
        Ok(exists > 0)
    }
}

/// Removes a payload.
pub(crate) struct Unlink<'a>(pub(crate) &'a str);

impl Exchange for Unlink<'_> {
    type Answer = ();

    async fn run(&self, connection: &mut BulkConnection, asking: bool) -> RedisResult<()> {
        numbers(connection, asking, [cmd("UNLINK").arg(self.0)]).await.map(drop)
    }
}

/// Runs commands whose answers are numbers, and returns the numbers.
async fn numbers<const N: usize>(
    connection: &mut BulkConnection,
    asking: bool,
    commands: [&mut Cmd; N],
) -> RedisResult<[u64; N]> {
    let mut batch = Batch::new(asking);
    for command in commands {
        batch.keyed(command);
    }
    let answers = connection.run(&batch).await?;
    let number = |answer: &Value| match answer {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let numbers: Option<Vec<u64>> = answers.iter().map(number).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| unexpected(&answers))
}
