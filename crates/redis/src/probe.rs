//! The exchanges about the state of a node: its view of the cluster, and the number of its working replicas.

use redis::{RedisResult, Value, cmd};

use crate::{
    bulk::{BulkConnection, unexpected},
    node::Exchange,
    topology::{Address, Topology},
};

/// Reads the topology of the cluster, as the node reports it.
pub(crate) struct ReadTopology<'a>(pub(crate) &'a Address);

impl Exchange for ReadTopology<'_> {
    type Answer = Topology;

    async fn run(&self, connection: &mut BulkConnection, _: bool) -> RedisResult<Topology> {
        let answer = connection.ask(cmd("CLUSTER").arg("SLOTS")).await?;
        Topology::read(&answer, self.0)
    }
}

/// Reads how many replicas of the node could confirm a write now. `None` if the node is not a primary.
pub(crate) struct CountReplicas;

impl Exchange for CountReplicas {
    type Answer = Option<u32>;

    async fn run(&self, connection: &mut BulkConnection, _: bool) -> RedisResult<Self::Answer> {
        let answer = connection.ask(cmd("INFO").arg("replication")).await?;
        match &answer {
            Value::BulkString(_) | Value::VerbatimString { .. } | Value::SimpleString(_) => {
                let text: String = redis::from_redis_value(answer)?;
                Ok(replicas_that_keep_up(&text))
            }
            _ => Err(unexpected(std::slice::from_ref(&answer))),
        }
    }
}

/// The largest lag, in seconds, of a replica that counts as working. A replica acknowledges its data once a second. A
/// replica that was silent for longer may hang, although its connection is still open.
const MAX_LAG_SECONDS: u32 = 2;

/// Counts the replicas that are online and have a small lag. `None` if the server is itself a replica.
fn replicas_that_keep_up(replication: &str) -> Option<u32> {
    let lines = || replication.lines().map(str::trim);
    lines().find(|line| *line == "role:master")?;
    let keeps_up = |line: &str| {
        // `slave0:ip=127.0.0.1,port=7001,state=online,offset=14,lag=0`
        let Some((name, fields)) = line.split_once(':') else { return false };
        let field = |wanted: &str| {
            fields.split(',').filter_map(|field| field.split_once('=')).find(|(name, _)| *name == wanted)
        };
        let is_replica =
            name.strip_prefix("slave").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        let lag = field("lag").and_then(|(_, lag)| lag.parse::<u32>().ok());
        is_replica
            && field("state").is_some_and(|(_, state)| state == "online")
            && lag.is_some_and(|lag| lag <= MAX_LAG_SECONDS)
    };
    u32::try_from(lines().filter(|line| keeps_up(line)).count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connected_replicas_that_are_not_silent_count() {
        for (text, replicas) in [
            ("role:slave\r\n", None),
            ("role:master\r\nconnected_slaves:0\r\n", Some(0)),
            ("role:master\r\nslave0:ip=1,port=2,state=online,offset=14,lag=0\r\n", Some(1)),
            ("role:master\r\nslave0:ip=1,port=2,state=online,offset=14,lag=3\r\n", Some(0)),
            ("role:master\r\nslave0:ip=1,port=2,state=wait_bgsave,offset=0,lag=0\r\n", Some(0)),
            ("role:master\r\nslave_repl_offset:14,state=online,lag=0\r\n", Some(0)),
        ] {
            assert_eq!(replicas_that_keep_up(text), replicas, "{text}");
        }
    }
}
