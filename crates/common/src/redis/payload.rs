//! The two conversations that carry payloads: storing a record, and reading its payload.

use custody_core::{
    content::{Content, Digested},
    message::InternalMessage,
};
use redis::{RedisResult, Value};

use super::bulk::{Batch, BulkConnection, unexpected};

/// A record to store, and where.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    /// The key of its hash.
    pub(super) key: &'a str,
    /// The key of the pending entries of its shard.
    pub(super) pending: &'a str,
    /// Its message, whose digest is the payload's whatever it says.
    pub(super) message: &'a InternalMessage,
    pub(super) payload: &'a Content<'a>,
}

/// How many replicas are to confirm a record, and for how long to wait for them.
#[derive(Clone, Copy)]
pub(super) struct Replication {
    pub(super) wanted: u32,
    pub(super) timeout_ms: u64,
}

/// Stores payload, message and pending entry in one transaction; how many replicas confirmed it.
pub(super) async fn store(
    connection: &mut BulkConnection,
    record: Record<'_>,
    Replication { wanted, timeout_ms }: Replication,
) -> RedisResult<u32> {
    let Record { key, pending, message, payload } = record;
    let run = message.run();
    // After the payload, so that its digest is worked out while it is sent.
    let describe = || {
        let mut command = redis::cmd("HSET");
        command.arg(key).arg("message").arg(message.with_payload(payload).to_json());
        command.arg("attempt").arg(run.attempt());
        command
    };
    let mut batch = Batch::new();
    batch
        .command(&redis::cmd("MULTI"))
        .command_with_content(&[b"HSET", key.as_bytes(), b"payload"], payload)
        .late_command(&describe)
        // An earlier run of the record may have been settled not long ago.
        .command(redis::cmd("PERSIST").arg(key))
        .command(redis::cmd("ZADD").arg(pending).arg(message.pending_since().unix_ms()).arg(run.to_string()))
        .command(&redis::cmd("EXEC"));
    if wanted > 0 {
        // Speaks of the writes of its own connection, so it belongs to them: if the connection dies in between, all of it
        // runs again.
        batch.command(redis::cmd("WAIT").arg(wanted).arg(timeout_ms));
    }
    confirmed_replicas(connection.run(&batch).await?, wanted)
}

/// Reads the answers to a transaction, and to the `WAIT` after it where replicas are wanted.
fn confirmed_replicas(mut answers: Vec<Value>, wanted: u32) -> RedisResult<u32> {
    let confirmed = if wanted > 0 { answers.pop() } else { Some(Value::Int(0)) };
    let is_queued = |answer: &Value| matches!(answer, Value::SimpleString(text) if text == "QUEUED");
    let was_executed = matches!(&answers[..], [Value::Okay, queued @ .., Value::Array(executed)]
        if queued.iter().all(is_queued) && executed.len() == queued.len());
    match confirmed {
        // The crate would make a large number of a negative one.
        Some(Value::Int(replicas)) if was_executed => {
            u32::try_from(replicas).map_err(|_| unexpected(&[Value::Int(replicas)]))
        }
        // The transaction was not executed, or this is no Redis.
        _ => Err(unexpected(&answers)),
    }
}

/// What a server says of a payload.
pub(super) enum Read {
    Payload(Digested),
    Nothing {
        /// Whether it is a primary that says so.
        by_primary: bool,
    },
}

/// Reads a payload. Where there is none, the same connection tells what kind of server that is.
pub(super) async fn read(connection: &mut BulkConnection, key: &str) -> RedisResult<Read> {
    let mut command = redis::cmd("HGET");
    if let Some(payload) = connection.fetch(command.arg(key).arg("payload")).await? {
        return Ok(Read::Payload(payload));
    }
    let mut batch = Batch::new();
    batch.command(redis::cmd("INFO").arg("replication"));
    let answer = connection.run(&batch).await?.pop().unwrap_or(Value::Nil);
    let replication: String = redis::from_redis_value(answer)?;
    Ok(Read::Nothing { by_primary: replication.lines().any(|line| line.trim() == "role:master") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_executed_transaction_counts_as_confirmed() {
        let queued = || Value::SimpleString("QUEUED".to_owned());
        let executed = || Value::Array(vec![Value::Int(1), Value::Int(0)]);
        let answers = |last: &[Value]| [&[Value::Okay, queued(), queued()], last].concat();
        for (last, wanted, confirmed) in [
            (vec![executed(), Value::Int(1)], 1, Some(1)),
            (vec![executed(), Value::Int(0)], 1, Some(0)),
            (vec![executed()], 0, Some(0)),
            (vec![Value::Nil, Value::Int(1)], 1, None),
            (vec![Value::Array(vec![Value::Int(1)]), Value::Int(1)], 1, None),
            (vec![executed(), Value::Nil], 1, None),
            (vec![executed(), Value::Int(-1)], 1, None),
            (vec![Value::Int(1)], 1, None),
        ] {
            assert_eq!(confirmed_replicas(answers(&last), wanted).ok(), confirmed, "{last:?}");
        }
        assert!(confirmed_replicas(Vec::new(), 1).is_err());
    }
}
