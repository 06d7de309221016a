//! A real cluster of `redis-server` or `valkey-server` processes for one test.

pub mod admin;
pub mod certificates;

use std::{
    fs::{self, File},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use self::{
    admin::{Administrator, CACHE_USERS, Node, Shard, every_access},
    certificates::Certificates,
};

/// The user of an encrypted cluster that may do what all functions together may.
pub const USERNAME: &str = "custody";

/// The password of that user, and of each of the [functions' users](CACHE_USERS).
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// The password of the user `admin`, for replication and for the tests themselves.
const ADMIN_PASSWORD: &str = "admin-battery-staple";

/// A cluster. Dropping it ends its processes.
///
/// Nodes have numbers: first the primaries, then the replicas of the first shard, then the replicas of the second
/// shard, and so on. A number always means the same process and port, even if the role of the node changes.
#[derive(Debug)]
pub struct RedisCluster {
    processes: Vec<NodeProcess>,
    shards: usize,
    replicas: usize,
    setup: Setup,
}

/// The settings that all nodes of a cluster share.
#[derive(Debug)]
struct Setup {
    program: String,
    /// The folder of the certificates, if the cluster is encrypted.
    certificates: Option<PathBuf>,
}

#[derive(Debug)]
struct NodeProcess {
    process: Child,
    node: Node,
    data: TempDir,
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // `SIGKILL` also ends a process that is stopped by `SIGSTOP`.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl RedisCluster {
    /// Starts a cluster of `redis-server` processes. With certificates, connections are encrypted and need a user and a
    /// password.
    pub fn start(
        shards: usize,
        replicas: usize,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<Self> {
        Self::start_program(&server_program(), shards, replicas, certificates)
    }

    /// Starts a cluster of processes of the server `program`.
    pub fn start_program(
        program: &str,
        shards: usize,
        replicas: usize,
        certificates: Option<&Certificates>,
    ) -> anyhow::Result<Self> {
        let setup = Setup {
            program: program.to_owned(),
            certificates: certificates.map(|certificates| certificates.folder().to_owned()),
        };
        let count = shards * (1 + replicas);
        let processes = (0..count).map(|_| setup.start_node()).collect::<Result<_, _>>()?;
        let cluster = Self { processes, shards, replicas, setup };
        admin::form(&cluster.shards())?;
        Ok(cluster)
    }

    /// Returns a node, to run commands on it.
    pub fn node(&self, number: usize) -> &Node {
        &self.processes[number].node
    }

    /// Returns all nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.processes.iter().map(|process| &process.node)
    }

    /// Returns the number of a shard's first replica.
    pub fn replica_of(&self, shard: usize) -> usize {
        self.shards + shard * self.replicas
    }

    /// Returns the shards with the roles that the nodes had at the start.
    fn shards(&self) -> Vec<Shard> {
        let node = |number: usize| self.node(number).clone();
        let replicas =
            |shard| (0..self.replicas).map(move |offset| self.replica_of(shard) + offset).map(node);
        let shard = |shard| Shard { primary: node(shard), replicas: replicas(shard).collect() };
        (0..self.shards).map(shard).collect()
    }

    /// Kills the process of a node.
    pub fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let process = &mut self.processes[number].process;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Stops the process of a node: its connections stay open, and it does not answer.
    pub fn hang(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::SIGSTOP)
    }

    /// Continues the process of a node that hangs.
    pub fn resume(&self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::SIGCONT)
    }

    fn signal(&self, number: usize, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.processes[number].process.id())?;
        Ok(kill(Pid::from_raw(id), signal)?)
    }

    /// Starts a killed node again. It has lost its data, but still belongs to the cluster.
    pub fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        let NodeProcess { node, data, process } = &mut self.processes[number];
        *process = self.setup.spawn(node.port, data)?;
        Ok(())
    }

    /// Starts a killed node again without its data and without its cluster configuration: it no longer belongs to the
    /// cluster.
    pub fn restart_without_membership(&mut self, number: usize) -> anyhow::Result<()> {
        fs::remove_file(self.processes[number].data.path().join("nodes.conf"))?;
        self.restart(number)
    }

    /// Waits until every node serves and every replica is in sync, in the roles that they had at the start.
    pub fn wait_until_healthy(&self) -> anyhow::Result<()> {
        admin::wait_until_healthy(&self.shards())
    }

    /// Makes a replica the primary of its shard.
    pub fn take_over(&self, number: usize) -> anyhow::Result<()> {
        admin::take_over(self.node(number))
    }

    /// Starts another primary without slots and without replicas. Returns its number.
    pub fn add_primary(&mut self) -> anyhow::Result<usize> {
        let process = self.setup.start_node()?;
        admin::add(&self.shards(), &Shard { primary: process.node.clone(), replicas: Vec::new() })?;
        self.processes.push(process);
        Ok(self.processes.len() - 1)
    }

    /// Moves slots with their keys from one primary to another, while both serve.
    pub fn move_slots(&self, from: usize, to: usize, slots: std::ops::Range<u16>) -> anyhow::Result<()> {
        let others: Vec<&Node> =
            (0..self.shards).filter(|shard| *shard != from).map(|shard| self.node(shard)).collect();
        admin::move_slots(self.node(from), self.node(to), &others, slots)
    }
}

/// Returns a port on which nothing listens. Each call returns another port. The ports are below the range from which
/// the operating system chooses ports for outgoing connections, so that a restarted node finds its own port free.
pub fn free_port() -> u16 {
    static LAST_PORT: AtomicU16 = AtomicU16::new(0);
    loop {
        let start = u16::try_from(std::process::id() * 101 % 20_000).unwrap_or(0);
        let port = 10_000 + (start + LAST_PORT.fetch_add(1, Ordering::Relaxed) % 20_000) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Setup {
    fn start_node(&self) -> anyhow::Result<NodeProcess> {
        // Another process may take a port before the server does. The server then ends, and the next ports are tried.
        for _ in 0..5 {
            let (port, bus_port) = (free_port(), free_port());
            let data = tempfile::tempdir()?;
            fs::write(data.path().join("server.conf"), self.configuration(port, bus_port))?;
            if let Ok(process) = self.spawn(port, &data) {
                let administrator = self.certificates.as_ref().map(|folder| Administrator {
                    username: "admin".to_owned(),
                    password: ADMIN_PASSWORD.to_owned(),
                    ca_file: folder.join("ca.pem"),
                });
                return Ok(NodeProcess { process, node: Node { port, bus_port, administrator }, data });
            }
        }
        bail!("{} does not start as a cluster's node", self.program)
    }

    /// Starts a server in its folder, and waits until its log reports that it is ready. An answer on the port would
    /// prove nothing, because it may come from another process.
    fn spawn(&self, port: u16, data: &TempDir) -> anyhow::Result<Child> {
        let log = data.path().join("log");
        let mut process = Command::new(&self.program)
            .arg("server.conf")
            .current_dir(data.path())
            .stdout(File::create(&log)?)
            .spawn()
            .with_context(|| format!("start {}", self.program))?;
        let text = || fs::read_to_string(&log).unwrap_or_default();
        let has_started = || text().contains("Ready to accept connections");
        let has_failed =
            || ["Failed listening", "in use", "FATAL", "Could not"].iter().any(|word| text().contains(word));
        let ready = admin::wait_until("the server", || has_started() || has_failed());
        if ready.is_err() || !has_started() {
            process.kill().ok();
            process.wait().ok();
            bail!("the server on port {port} does not start: {}", text());
        }
        Ok(process)
    }

    fn configuration(&self, port: u16, bus_port: u16) -> String {
        let common = format!(
            "bind 127.0.0.1\ncluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus_port}\n\
             cluster-node-timeout 1000\ncluster-require-full-coverage no\ncluster-allow-replica-migration no\n\
             save \"\"\nappendonly no\nmaxmemory-policy noeviction\nrepl-diskless-sync yes\n\
             repl-diskless-sync-delay 0\nprotected-mode no\n"
        );
        let Some(certificates) = &self.certificates else { return format!("{common}port {port}\n") };
        let files = certificates.display();
        let functions =
            CACHE_USERS.map(|user| format!("user {} {} >{PASSWORD}\n", user.name, user.access)).concat();
        let everything = every_access();
        format!(
            "{common}port 0\ntls-port {port}\ntls-replication yes\ntls-cluster yes\ntls-auth-clients no\n\
             tls-cert-file \"{files}/cert.pem\"\ntls-key-file \"{files}/key.pem\"\n\
             tls-ca-cert-file \"{files}/ca.pem\"\n\
             user default off\nuser admin on >{ADMIN_PASSWORD} ~* &* +@all\n\
             user {USERNAME} {everything} >{PASSWORD}\n{functions}masteruser admin\nmasterauth {ADMIN_PASSWORD}\n"
        )
    }
}

/// The `redis-server` to start: the one that the task runner found or installed, else the one on the `PATH`.
#[expect(
    clippy::disallowed_methods,
    reason = "the task runner reports where it found or installed the server"
)]
fn server_program() -> String {
    std::env::var("CUSTODY_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}
