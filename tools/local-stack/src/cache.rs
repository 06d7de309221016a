//! The cache as ElastiCache runs it: a cluster of two shards with one replica each, TLS only, a user with few
//! permissions for each function, and no eviction. Unlike on ElastiCache, each node writes a log to disk, so that a test can kill a node
//! and start it again with its data, as if the node had been unreachable for a while.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, bail};
use custody_redis_cluster::{
    admin::{self, Administrator, CACHE_USERS, CacheUser, Node, SLOTS, Shard},
    free_port,
};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{Running, files::write_private, process};

/// The ports of one node.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct NodePorts {
    /// The port for clients.
    pub(crate) client: u16,
    /// The port for other nodes of the cluster.
    bus: u16,
}

impl NodePorts {
    pub(crate) fn free() -> Self {
        Self { client: free_port(), bus: free_port() }
    }
}

/// The maximum number of nodes of a stack: two shards, and a third one that can be added while the stack runs, with two
/// nodes each.
pub(crate) const NODES: usize = 6;

/// The two nodes of each shard. Either of them can be the primary. The last shard is the one that can be added.
const SHARDS: [[usize; 2]; 3] = [[0, 2], [1, 3], [4, 5]];

const FIRST_SHARD: [usize; 2] = SHARDS[0];
const SECOND_SHARD: [usize; 2] = SHARDS[1];
const ADDED_SHARD: [usize; 2] = SHARDS[2];

/// The cache of a stack.
pub(crate) struct Cache<'a> {
    running: &'a Running,
    redis_server: &'a Path,
}

/// Returns the name of a node, which its process, its log and its folder have.
fn name(number: usize) -> String {
    format!("cache-{}", number + 1)
}

/// Returns the numbers of the nodes that the stack in this folder has.
pub(crate) fn present(folder: &Path) -> Vec<usize> {
    (0..NODES).filter(|number| folder.join(name(*number)).exists()).collect()
}

impl<'a> Cache<'a> {
    /// Returns the cache of `running`. `redis_server` is the program that its nodes run.
    pub(crate) fn of(running: &'a Running, redis_server: &'a Path) -> Self {
        Self { running, redis_server }
    }

    /// Starts the nodes of a new stack and forms a cluster of them.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        let shards = [FIRST_SHARD, SECOND_SHARD];
        for number in shards.into_iter().flatten() {
            self.start_node(number)?;
        }
        let shards = shards.map(|[primary, replica]| self.shard(primary, replica));
        admin::form(&shards)
    }

    /// Suspends every primary, so that it hangs.
    pub(crate) fn hang(&self) -> anyhow::Result<()> {
        for [primary, _] in self.shards()? {
            self.signal(primary, Signal::SIGSTOP)?;
        }
        Ok(())
    }

    /// Resumes every node, and waits until the cache is healthy.
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        for number in self.present() {
            self.signal(number, Signal::SIGCONT)?;
        }
        self.wait_until_healthy()
    }

    /// Kills every node.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        self.present()
            .into_iter()
            .filter(|number| self.listens(*number))
            .try_for_each(|number| self.kill_node(number))
    }

    /// Starts every node that does not run, with its data, and waits until the cache is healthy.
    pub(crate) fn start_again(&self) -> anyhow::Result<()> {
        for number in self.present() {
            if !self.listens(number) {
                self.start_node(number)?;
            }
        }
        self.wait_until_healthy()
    }

    /// Kills every node and starts it again without data, in the same place in the cluster.
    pub(crate) fn lose(&self) -> anyhow::Result<()> {
        self.kill()?;
        for number in self.present() {
            let data = self.running.folder.join(name(number)).join("appendonlydir");
            if data.exists() {
                fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
            }
        }
        self.start_again()
    }

    /// Kills the first shard's primary, makes its replica the primary, and starts the old one as its replica.
    pub(crate) fn fail_over(&self) -> anyhow::Result<()> {
        let [primary, replica] = self.roles(FIRST_SHARD)?;
        self.kill_node(primary)?;
        admin::take_over(&self.node(replica))?;
        self.start_node(primary)?;
        self.wait_until_healthy()
    }

    /// Kills the first shard's replica.
    pub(crate) fn kill_replica(&self) -> anyhow::Result<()> {
        let [_, replica] = self.roles(FIRST_SHARD)?;
        self.kill_node(replica)
    }

    /// Starts another shard and moves half of the second shard's slots, with their keys, to it while all nodes serve
    /// requests.
    pub(crate) fn add_shard(&self) -> anyhow::Result<()> {
        if self.present().contains(&ADDED_SHARD[0]) {
            bail!("the shard was added before");
        }
        let existing = self.shards()?;
        for number in ADDED_SHARD {
            self.start_node(number)?;
        }
        let existing = existing.map(|[primary, replica]| self.shard(primary, replica));
        let added = self.shard(ADDED_SHARD[0], ADDED_SHARD[1]);
        admin::add(&existing, &added)?;
        let [first, second] = &existing;
        let moved = SLOTS / 4 * 3..SLOTS;
        admin::move_slots(&second.primary, &added.primary, &[&first.primary], moved)
    }

    fn present(&self) -> Vec<usize> {
        present(&self.running.folder)
    }

    fn listens(&self, number: usize) -> bool {
        process::listens(self.running.ports.cache[number].client)
    }

    fn signal(&self, number: usize, signal: Signal) -> anyhow::Result<()> {
        process::signal(&self.running.folder, &name(number), signal)
    }

    fn kill_node(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::SIGKILL)
    }

    /// Returns a node with the login of its administrator.
    fn node(&self, number: usize) -> Node {
        let NodePorts { client, bus } = self.running.ports.cache[number];
        let administrator = Administrator {
            username: "admin".to_owned(),
            password: self.running.cache_admin_password.clone(),
            ca_file: self.running.ca_file(),
        };
        Node { port: client, bus_port: bus, administrator: Some(administrator) }
    }

    fn shard(&self, primary: usize, replica: usize) -> Shard {
        Shard { primary: self.node(primary), replicas: vec![self.node(replica)] }
    }

    /// Returns the current primary and the current replica of a shard, in this order.
    fn roles(&self, [one, other]: [usize; 2]) -> anyhow::Result<[usize; 2]> {
        if self.node(one).is_primary() {
            Ok([one, other])
        } else if self.node(other).is_primary() {
            Ok([other, one])
        } else {
            bail!("neither {} nor {} is a primary", name(one), name(other))
        }
    }

    /// Returns the current primary and replica of each shard of a new stack. The shard that can be added is not among
    /// them.
    fn shards(&self) -> anyhow::Result<[[usize; 2]; 2]> {
        Ok([self.roles(FIRST_SHARD)?, self.roles(SECOND_SHARD)?])
    }

    /// Waits until each shard has a primary that serves requests, and a replica that serves requests and is in sync.
    fn wait_until_healthy(&self) -> anyhow::Result<()> {
        let present = self.present();
        let shards = || SHARDS.into_iter().filter(|[number, _]| present.contains(number));
        let healthy = admin::wait_until("the cache", || {
            shards().all(|shard| {
                self.roles(shard).is_ok_and(|[primary, replica]| {
                    let (primary, replica) = (self.node(primary), self.node(replica));
                    primary.is_serving() && replica.is_serving() && replica.is_replica_in_sync()
                })
            })
        });
        healthy.with_context(|| {
            let nodes = present.iter().map(|number| self.describe(*number));
            nodes.collect::<Vec<_>>().join("\n")
        })
    }

    /// Describes the state of a node, for a person who wants to know why the cache does not become healthy.
    fn describe(&self, number: usize) -> String {
        let (name, node) = (name(number), self.node(number));
        if !self.listens(number) {
            return format!("{name} does not listen");
        }
        let replication = node.info("replication").unwrap_or_else(|error| format!("{error:#}"));
        let kept = ["role:", "master_link", "master_sync", "connected_slaves:"];
        let lines = replication.lines().filter(|line| kept.iter().any(|start| line.starts_with(start)));
        let lines: Vec<&str> = lines.map(str::trim).collect();
        let serves = if node.is_serving() { "serves" } else { "does not serve" };
        format!("{name} {serves}; {}", lines.join(", "))
    }

    fn start_node(&self, number: usize) -> anyhow::Result<()> {
        let (name, NodePorts { client, bus }) = (name(number), self.running.ports.cache[number]);
        let folder = self.running.folder.join(&name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let (tls, data) = (self.running.folder.join("tls"), folder.display());
        let admin = &self.running.cache_admin_password;
        let functions = CACHE_USERS.map(|CacheUser { name, access }| {
            format!("user {name} {access} >{}\n", self.running.cache_password_of(name))
        });
        let functions = functions.concat();
        let tls = tls.display();
        let config = format!(
            "bind 127.0.0.1\nport 0\ntls-port {client}\ntls-replication yes\ntls-cluster yes\ntls-auth-clients no\n\
             tls-cert-file \"{tls}/cert.pem\"\ntls-key-file \"{tls}/key.pem\"\ntls-ca-cert-file \"{tls}/ca.pem\"\n\
             cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}\ncluster-node-timeout 5000\n\
             cluster-require-full-coverage no\ncluster-allow-replica-migration no\n\
             user default off\nuser admin on >{admin} ~* &* +@all\n{functions}\
             masteruser admin\nmasterauth {admin}\n\
             maxmemory 1gb\nmaxmemory-policy noeviction\nsave \"\"\nappendonly yes\ndir \"{data}\"\n\
             repl-diskless-sync yes\nrepl-diskless-sync-delay 0\n"
        );
        let file = folder.join("redis.conf");
        write_private(&file, &config)?;
        process::start(&self.running.folder, &name, Command::new(self.redis_server).env_clear().arg(file))?;
        process::wait_for_port(client, &name, Duration::from_secs(20))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use redis::cmd;

    use super::*;
    use crate::{certificates, files::random_password, running::Ports};

    /// A stack with a cache and without MiniStack.
    struct CacheAlone {
        running: Running,
        _folder: tempfile::TempDir,
    }

    impl Drop for CacheAlone {
        fn drop(&mut self) {
            process::end_all(&self.running.folder).ok();
        }
    }

    impl CacheAlone {
        fn start(redis_server: &Path) -> Self {
            let temporary = tempfile::tempdir().unwrap();
            let folder = temporary.path().canonicalize().unwrap();
            certificates::create(&folder).unwrap();
            let running = Running {
                folder,
                ports: Ports::free(),
                cache_password: random_password().unwrap(),
                cache_admin_password: random_password().unwrap(),
                fingerprint: String::new(),
                outputs: BTreeMap::new(),
                api_key: String::new(),
            };
            let alone = Self { running, _folder: temporary };
            Cache::of(&alone.running, redis_server).start().unwrap();
            alone
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the task runner passes the path of the server that it found or installed"
    )]
    fn redis_server() -> PathBuf {
        std::env::var("CUSTODY_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()).into()
    }

    /// Returns whether the cluster has the key, in any slot.
    fn has_key(cache: &Cache<'_>, key: &str) -> bool {
        let nodes = cache.present().into_iter().map(|number| cache.node(number));
        let mut primaries = nodes.filter(Node::is_primary);
        primaries.any(|node| node.run::<bool>(cmd("EXISTS").arg(key)).unwrap_or(false))
    }

    #[test]
    fn the_cache_of_a_stack_survives_every_fault_and_loses_data_only_when_told_to() {
        let server = redis_server();
        let alone = CacheAlone::start(&server);
        let cache = Cache::of(&alone.running, &server);
        // Enough keys that every quarter of the slots has some.
        let keys: Vec<String> = (0..40).map(|number| format!("rec:{number}")).collect();
        for key in &keys {
            let nodes = [0, 1].map(|number| cache.node(number));
            let stored = nodes.iter().any(|node| node.run::<()>(cmd("SET").arg(key).arg("value")).is_ok());
            assert!(stored, "{key}");
        }
        let expect_all = |after: &str| {
            for key in &keys {
                assert!(has_key(&cache, key), "{key} is lost after {after}");
            }
        };
        cache.hang().unwrap();
        cache.resume().unwrap();
        expect_all("hang and resume");
        cache.kill().unwrap();
        cache.start_again().unwrap();
        expect_all("kill and start");
        cache.fail_over().unwrap();
        assert_eq!(cache.roles(FIRST_SHARD).unwrap(), [2, 0], "the roles have changed");
        expect_all("a fail-over");
        cache.kill_replica().unwrap();
        cache.start_again().unwrap();
        cache.add_shard().unwrap();
        expect_all("adding a shard");
        assert!(cache.add_shard().is_err(), "there is room for one more shard only");
        cache.hang().unwrap();
        cache.resume().unwrap();
        cache.lose().unwrap();
        assert!(!keys.iter().any(|key| has_key(&cache, key)), "the cache has come back empty");
    }
}
