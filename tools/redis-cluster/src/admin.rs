//! Administration of a cluster: the part of `redis-cli --cluster` that tests and the local stack need.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use redis::{Cmd, Connection, FromRedisValue, cmd};

/// The number of hash slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// A user of the cache: a function's own.
#[derive(Clone, Copy, Debug)]
pub struct CacheUser {
    /// The user's name, which is that of the function.
    pub name: &'static str,
    /// The user's permissions, in the syntax of an access control list. `template.yaml` contains the same text.
    pub access: &'static str,
}

/// The users of the cache. Every function may use its own commands on payloads, and those that find the owner of a slot. Ingest may
/// also wait for replicas and count them.
pub const CACHE_USERS: [CacheUser; 5] = [
    CacheUser {
        name: "ingest",
        access: "on ~rec:* -@all +set +persist +exists +unlink +wait +info +asking +cluster|slots",
    },
    CacheUser { name: "archive", access: "on ~rec:* -@all +get +asking +cluster|slots" },
    CacheUser { name: "aggregate", access: "on ~rec:* -@all +unlink +asking +cluster|slots" },
    CacheUser {
        name: "failure",
        access: "on ~rec:* -@all +get +strlen +exists +unlink +asking +cluster|slots",
    },
    CacheUser {
        name: "reconcile",
        access: "on ~rec:* -@all +strlen +exists +persist +unlink +asking +cluster|slots",
    },
];

/// The permissions that [`CACHE_USERS`] have together, for tests and benchmarks that play all functions.
pub fn every_access() -> String {
    let commands =
        CACHE_USERS.iter().flat_map(|user| user.access.split(' ').filter(|word| word.starts_with('+')));
    let commands: BTreeSet<&str> = commands.collect();
    let commands: Vec<&str> = commands.into_iter().collect();
    format!("on ~rec:* -@all {}", commands.join(" "))
}

/// The credentials of the administrator of an encrypted cluster.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// The name of the administrator.
    pub username: String,
    /// The password of the administrator.
    pub password: String,
    /// The PEM file of the authority that signed the nodes' certificates.
    pub ca_file: PathBuf,
}

/// A node on this machine, and the credentials to administrate it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The port for clients.
    pub port: u16,
    /// The port for other nodes.
    pub bus_port: u16,
    /// The administrator's credentials. `None` if the cluster is not encrypted.
    pub administrator: Option<Administrator>,
}

impl Node {
    /// Opens a new connection.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        let client = match &self.administrator {
            None => redis::Client::open(("127.0.0.1".to_owned(), self.port))?,
            Some(Administrator { username, password, ca_file }) => {
                // An error means that a provider was installed before. It is the same one.
                rustls::crypto::ring::default_provider().install_default().ok();
                let url = format!("rediss://{username}:{password}@127.0.0.1:{}", self.port);
                let root_cert = Some(std::fs::read(ca_file)?);
                redis::Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })?
            }
        };
        let limit = Duration::from_secs(5);
        let connection = client
            .get_connection_with_timeout(limit)
            .with_context(|| format!("connect to node {}", self.port))?;
        connection.set_read_timeout(Some(limit))?;
        Ok(connection)
    }

    /// Runs a command on a new connection.
    pub fn run<T: FromRedisValue>(&self, command: &Cmd) -> anyhow::Result<T> {
        command.query(&mut self.connect()?).with_context(|| format!("administrate node {}", self.port))
    }

    /// Returns the node's id in the cluster.
    pub fn id(&self) -> anyhow::Result<String> {
        self.run(cmd("CLUSTER").arg("MYID"))
    }

    /// Returns a section of `INFO`.
    pub fn info(&self, section: &str) -> anyhow::Result<String> {
        self.run(cmd("INFO").arg(section))
    }

    fn reports(&self, section: &str, line: &str) -> bool {
        self.info(section).is_ok_and(|text| text.lines().any(|found| found.trim() == line))
    }

    /// Returns whether the node is a primary.
    pub fn is_primary(&self) -> bool {
        self.reports("replication", "role:master")
    }

    /// Returns whether the node is a replica whose connection to its primary is up, with all data copied.
    pub fn is_replica_in_sync(&self) -> bool {
        self.reports("replication", "role:slave") && self.reports("replication", "master_link_status:up")
    }

    /// Returns whether the node reports the state of the cluster as ok.
    pub fn is_serving(&self) -> bool {
        let state: anyhow::Result<String> = self.run(cmd("CLUSTER").arg("INFO"));
        state.is_ok_and(|text| text.lines().any(|line| line.trim() == "cluster_state:ok"))
    }

    /// Returns how many times the node has run a command.
    pub fn calls(&self, command: &str) -> anyhow::Result<u64> {
        let stats = self.info("commandstats")?;
        let prefix = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(line.and_then(|line| line.split(',').next()).and_then(|calls| calls.parse().ok()).unwrap_or(0))
    }

    /// Returns the ids of the nodes that this node knows, without those whose handshake is not complete.
    fn known(&self) -> anyhow::Result<BTreeSet<String>> {
        let text: String = self.run(cmd("CLUSTER").arg("NODES"))?;
        let ready = text.lines().filter(|line| !line.contains("handshake") && !line.contains("noaddr"));
        Ok(ready.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }

    /// Returns the number of slots that this primary owns, as the node `witness` reports it.
    fn slots_seen_by(&self, witness: &Self) -> anyhow::Result<usize> {
        let id = self.id()?;
        let text: String = witness.run(cmd("CLUSTER").arg("NODES"))?;
        let line = text.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
        let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
        Ok(ranges
            .map(|range| match range.split_once('-') {
                Some((first, last)) => {
                    last.parse::<usize>().unwrap_or(0) - first.parse::<usize>().unwrap_or(0) + 1
                }
                None => 1,
            })
            .sum())
    }
}

/// A primary and its replicas.
#[derive(Clone, Debug)]
pub struct Shard {
    /// The primary.
    pub primary: Node,
    /// The replicas.
    pub replicas: Vec<Node>,
}

impl Shard {
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        [&self.primary].into_iter().chain(&self.replicas)
    }
}

/// Forms a cluster of nodes that have started and do not know each other. Returns after every node serves and every
/// replica is in sync.
pub fn form(shards: &[Shard]) -> anyhow::Result<()> {
    let count = u16::try_from(shards.len()).context("count the shards")?;
    for (index, shard) in (0..).zip(shards) {
        let bound = |index: u16| u32::from(SLOTS) * u32::from(index) / u32::from(count);
        let mut slots = cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(bound(index)).arg(bound(index + 1) - 1);
        shard.primary.run::<()>(&slots)?;
    }
    let nodes: Vec<&Node> = shards.iter().flat_map(Shard::nodes).collect();
    for (epoch, node) in (1..).zip(&nodes) {
        node.run::<()>(cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(epoch))?;
    }
    introduce(&nodes)?;
    follow(shards)?;
    wait_until_healthy(shards)
}

/// Adds a shard without slots to a cluster.
pub fn add(existing: &[Shard], new: &Shard) -> anyhow::Result<()> {
    let nodes: Vec<&Node> = existing.iter().flat_map(Shard::nodes).chain(new.nodes()).collect();
    introduce(&nodes)?;
    follow(std::slice::from_ref(new))?;
    wait_until("the new shard", || new.nodes().all(Node::is_serving))
}

/// Makes the first node meet all others, and waits until each node knows all nodes.
fn introduce(nodes: &[&Node]) -> anyhow::Result<()> {
    let Some((first, others)) = nodes.split_first() else { return Ok(()) };
    let all: BTreeSet<String> = nodes.iter().map(|node| node.id()).collect::<Result<_, _>>()?;
    for node in others {
        if !first.known()?.contains(&node.id()?) {
            let mut meet = cmd("CLUSTER");
            first.run::<()>(meet.arg("MEET").arg("127.0.0.1").arg(node.port).arg(node.bus_port))?;
        }
    }
    wait_until("the nodes to know each other", || {
        nodes.iter().all(|node| node.known().is_ok_and(|known| known == all))
    })
}

fn follow(shards: &[Shard]) -> anyhow::Result<()> {
    for shard in shards {
        let primary = shard.primary.id()?;
        for replica in &shard.replicas {
            replica.run::<()>(cmd("CLUSTER").arg("REPLICATE").arg(&primary))?;
        }
    }
    wait_until("replication", || {
        shards.iter().flat_map(|shard| &shard.replicas).all(Node::is_replica_in_sync)
    })
}

/// Waits until every node serves, every replica is in sync, and every primary reports its replicas as connected.
pub fn wait_until_healthy(shards: &[Shard]) -> anyhow::Result<()> {
    wait_until("the cluster", || {
        shards.iter().all(|shard| {
            let connected = format!("connected_slaves:{}", shard.replicas.len());
            shard.nodes().all(Node::is_serving)
                && shard.replicas.iter().all(Node::is_replica_in_sync)
                && shard.primary.reports("replication", &connected)
        })
    })
}

/// Makes a replica the primary of its shard without a vote of the other nodes. In a cluster of two primaries of which
/// one is dead, there is no majority for a vote.
pub fn take_over(replica: &Node) -> anyhow::Result<()> {
    replica.run::<()>(cmd("CLUSTER").arg("FAILOVER").arg("TAKEOVER"))?;
    wait_until("the take-over", || replica.is_primary() && replica.is_serving())
}

/// Moves slots with their keys from one primary to another, while both serve. `others` are the remaining primaries.
pub fn move_slots(from: &Node, to: &Node, others: &[&Node], slots: Range<u16>) -> anyhow::Result<()> {
    let (from_id, to_id) = (from.id()?, to.id()?);
    let count = slots.len();
    let before = to.slots_seen_by(to)?;
    let (mut source, mut target) = (from.connect()?, to.connect()?);
    for slot in slots {
        let set = |how: &str, id: &str| {
            let mut command = cmd("CLUSTER");
            command.arg("SETSLOT").arg(slot).arg(how).arg(id);
            command
        };
        set("IMPORTING", &from_id).exec(&mut target)?;
        set("MIGRATING", &to_id).exec(&mut source)?;
        loop {
            let keys: Vec<String> =
                cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(100).query(&mut source)?;
            if keys.is_empty() {
                break;
            }
            migrate(to, &keys).exec(&mut source).context("migrate keys")?;
        }
        set("NODE", &to_id).exec(&mut target)?;
        set("NODE", &to_id).exec(&mut source)?;
    }
    wait_until("all primaries to report the moved slots", || {
        [from, to]
            .iter()
            .chain(others)
            .all(|node| to.slots_seen_by(node).is_ok_and(|seen| seen == before + count))
    })
}

fn migrate(to: &Node, keys: &[String]) -> Cmd {
    let mut command = cmd("MIGRATE");
    command.arg("127.0.0.1").arg(to.port).arg("").arg(0).arg(5000);
    if let Some(Administrator { username, password, .. }) = &to.administrator {
        command.arg("AUTH2").arg(username).arg(password);
    }
    command.arg("KEYS").arg(keys);
    command
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !holds() {
        if Instant::now() > deadline {
            bail!("waited a minute in vain for {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
