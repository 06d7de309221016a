//! The local stack: MiniStack, the cache (a cluster of Redis servers), and the template deployed to them.
//!
//! *Invariants:* everything listens on loopback only. Everything a stack has is in `.custody/stacks/<name>`. Every
//! process of a stack, and every process that one starts, carries the stack's folder in its environment or works in
//! it, so that `down` finds them all.

mod cache;
mod certificates;
mod deploy;
mod ministack;
mod process;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use custody_test_support::redis_cluster::free_port;
use serde::{Deserialize, Serialize};

use self::cache::{Cache, NodePorts};
use crate::{build::Programs, progress, tools, workspace};

/// A local stack by name, running or not.
#[derive(Debug)]
pub(crate) struct Stack {
    name: String,
    folder: PathBuf,
}

/// What is known of a stack that runs. Kept in `stack.json`, which only its owner may read.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    folder: PathBuf,
    ports: Ports,
    /// Of the cache's user `custody`.
    cache_password: String,
    /// Of the cache's user `admin`, whom only nodes and tests know.
    cache_admin_password: String,
    /// Of what was deployed; empty before the first deployment.
    fingerprint: String,
    outputs: BTreeMap<String, String>,
    api_key: String,
}

/// The type of workflow that a stack runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workflows {
    /// At most one execution of a name.
    #[default]
    Standard,
    /// At least one, with a history in logs only.
    Express,
}

impl Workflows {
    /// The name of a check that starts a stack with such workflows.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Standard => "local stack with STANDARD workflows",
            Self::Express => "local stack with EXPRESS workflows",
        }
    }

    /// The template's parameter `StateMachineType`.
    pub(crate) fn parameter(self) -> &'static str {
        match self {
            Self::Standard => "STANDARD",
            Self::Express => "EXPRESS",
        }
    }
}

/// What can be broken, and mended again.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Fault {
    /// Kill every function process in the middle of its work.
    KillFunctions,
    /// Let every primary of the cache hang.
    HangCache,
    /// Let them go on.
    ResumeCache,
    /// Kill every node of the cache.
    KillCache,
    /// Start the nodes that were killed again, with what they had.
    StartCache,
    /// Kill every node of the cache and start it again, empty.
    LoseCache,
    /// Kill the primary of the first shard, let its replica take over, and start the old one as a replica.
    FailOverShard,
    /// Kill the replica of the first shard.
    KillReplica,
    /// Start it again.
    StartReplica,
    /// Add a shard to the cache, and move a quarter of all payloads to it while records come in.
    AddShard,
    /// Stop MiniStack and start it again with what it had; workflows under way end as failed.
    RestartMinistack,
    /// Let S3 answer 503 to everybody.
    S3Away,
    /// Let `DynamoDB` answer 503 to everybody.
    DynamodbAway,
    /// Let SNS answer 503 to everybody.
    SnsAway,
    /// Let Step Functions answer 503 to everybody.
    StatesAway,
    /// Let Step Functions take half a minute to answer 503.
    StatesHang,
    /// Let every service answer again.
    ServicesBack,
}

/// The loopback ports of a stack.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Ports {
    gateway: u16,
    /// Of the nodes of the cache, those of a shard that may be added among them.
    cache: [NodePorts; cache::NODES],
}

impl Ports {
    fn free() -> Self {
        Self { gateway: free_port(), cache: std::array::from_fn(|_| NodePorts::free()) }
    }
}

/// A stack's name is also a folder's.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    if !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Ok(text.to_owned());
    }
    Err("a stack's name has up to 32 lower-case letters, digits and hyphens".to_owned())
}

impl Stack {
    /// The stack of this name.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), folder: workspace::state().join("stacks").join(name) }
    }

    fn of(running: &Running) -> Self {
        let name = running.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, folder: running.folder.clone() }
    }

    /// Starts the stack and deploys to it. What runs already and is up to date is left alone.
    pub(crate) fn up(&self, programs: &Programs, workflows: Workflows) -> anyhow::Result<Running> {
        let python = tools::Python::ready()?;
        let redis_server = tools::redis_server()?;
        println!("Local stack `{}`", self.name);

        let mut running = match self.running() {
            Ok(running) => running,
            Err(reason) => {
                if self.known().is_some() {
                    println!("  ! {reason}");
                }
                self.start(&python, &redis_server)?
            }
        };
        let fingerprint = deploy::fingerprint(&programs.functions, workflows)?;
        if running.fingerprint != fingerprint {
            let deployed = progress::step("Deploying template.yaml", || {
                deploy::deploy(&running, &python, &programs.functions, workflows)
            })?;
            running.outputs = deployed.outputs;
            running.api_key = deployed.api_key;
            running.fingerprint = fingerprint;
            running.save()?;
        }
        Ok(running)
    }

    fn start(&self, python: &tools::Python, redis_server: &Path) -> anyhow::Result<Running> {
        // What a crashed stack left behind.
        process::end_all(&self.folder)?;
        drop(fs::remove_dir_all(&self.folder));
        fs::create_dir_all(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        certificates::create(&self.folder)?;
        let running = Running {
            folder: self.folder.clone(),
            ports: Ports::free(),
            cache_password: random_password()?,
            cache_admin_password: random_password()?,
            fingerprint: String::new(),
            outputs: BTreeMap::new(),
            api_key: String::new(),
        };
        let started =
            progress::step("Starting the cache (two shards with a replica each) and MiniStack", || {
                Cache::of(&running, redis_server).start()?;
                ministack::start(&running, python)
            });
        if let Err(error) = started {
            process::end_all(&self.folder)?;
            return Err(error);
        }
        running.save()?;
        Ok(running)
    }

    /// The stack, if all of it runs.
    pub(crate) fn running(&self) -> anyhow::Result<Running> {
        let up = format!("cargo xtask{} up", self.option());
        let Some(running) = self.known() else {
            bail!("stack `{}` is not running; start it with `{up}`", self.name);
        };
        if let Some(part) = running.first_dead_part() {
            bail!(
                "{part} of stack `{}` has ended; `{up}` starts the stack anew, without its data",
                self.name
            );
        }
        Ok(running)
    }

    /// What was noted of the stack when it was started.
    fn known(&self) -> Option<Running> {
        serde_json::from_str(&fs::read_to_string(self.folder.join("stack.json")).ok()?).ok()
    }

    /// The option that names this stack, for advice.
    fn option(&self) -> String {
        if self.name == "default" { String::new() } else { format!(" --stack {}", self.name) }
    }

    /// Ends every process of the stack and removes its folder.
    pub(crate) fn down(&self) -> anyhow::Result<()> {
        let ended = process::end_all(&self.folder)?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))?;
        }
        println!("Stack `{}` is down ({ended} processes ended).", self.name);
        Ok(())
    }

    /// Ends what an earlier run of this stack may have left, without a word.
    pub(crate) fn forget(&self) -> anyhow::Result<()> {
        process::end_all(&self.folder)?;
        drop(fs::remove_dir_all(&self.folder));
        Ok(())
    }

    /// Copies the logs of the stack to `folder`, as far as they can be had.
    pub(crate) fn keep_logs(&self, folder: &Path) {
        drop(fs::create_dir_all(folder));
        for entry in self.folder.join("logs").read_dir().into_iter().flatten().flatten() {
            drop(fs::copy(entry.path(), folder.join(entry.file_name())));
        }
    }

    /// Breaks a part of the stack, or mends it.
    pub(crate) fn break_part(&self, fault: Fault) -> anyhow::Result<()> {
        let Some(running) = self.known() else { bail!("stack `{}` is not running", self.name) };
        let redis_server = tools::redis_server()?;
        let cache = Cache::of(&running, &redis_server);
        match fault {
            Fault::S3Away => self.set_away("s3"),
            Fault::DynamodbAway => self.set_away("dynamodb"),
            Fault::SnsAway => self.set_away("sns"),
            Fault::StatesAway => self.set_away("states"),
            Fault::StatesHang => self.set_away("hanging-states"),
            Fault::ServicesBack => self.set_away(""),
            Fault::KillFunctions => {
                println!("{} functions killed", process::kill_functions(&self.folder)?);
                Ok(())
            }
            Fault::HangCache => cache.hang(),
            Fault::ResumeCache => cache.resume(),
            Fault::KillCache => cache.kill(),
            Fault::StartCache | Fault::StartReplica => cache.start_again(),
            Fault::LoseCache => cache.lose(),
            Fault::FailOverShard => cache.fail_over(),
            Fault::KillReplica => cache.kill_replica(),
            Fault::AddShard => cache.add_shard(),
            Fault::RestartMinistack => {
                process::end_emulator(&self.folder)?;
                ministack::start(&running, &tools::Python::ready()?)
            }
        }
    }

    /// Lets one service of the emulated AWS be away, or none.
    fn set_away(&self, service: &str) -> anyhow::Result<()> {
        let file = self.folder.join("away");
        fs::write(&file, service).with_context(|| format!("write {}", file.display()))
    }

    /// Prints what runs where.
    pub(crate) fn status(&self) -> anyhow::Result<()> {
        let running = self.running()?;
        println!("{}", running.summary());
        println!("processes: {}", process::of_stack(&self.folder)?.len());
        Ok(())
    }

    /// Prints logs.
    pub(crate) fn logs(&self, of: &str) -> anyhow::Result<()> {
        // These are read from files: after a crash they are what one needs.
        let file = self.folder.join("logs").join(format!("{of}.log"));
        if file.exists() {
            print!("{}", fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?);
            return Ok(());
        }
        let running = self.running()?;
        let python = tools::Python::ready()?;
        let mut command = python.command("python");
        command.arg(workspace::stack_files().join("logs.py")).arg(of);
        progress::run_visibly(running.point_at_it(&mut command))
    }
}

impl Running {
    fn save(&self) -> anyhow::Result<()> {
        let file = self.folder.join("stack.json");
        write_private(&file, &serde_json::to_string_pretty(self)?)?;
        let outputs = serde_json::to_string_pretty(&self.outputs)?;
        write_private(&self.outputs_file(), &outputs)
    }

    /// The first part of the stack that does not answer any more.
    fn first_dead_part(&self) -> Option<String> {
        let cache = cache::present(&self.folder).into_iter();
        let nodes = cache
            .map(|number| (format!("node {} of the cache", number + 1), self.ports.cache[number].client));
        let mut parts = [("MiniStack".to_owned(), self.ports.gateway)].into_iter().chain(nodes);
        parts.find(|(_, port)| !process::listens(*port)).map(|(part, _)| part)
    }

    fn outputs_file(&self) -> PathBuf {
        self.folder.join("outputs.json")
    }

    fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.gateway)
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.join("tls/ca.pem")
    }

    /// The variables that point AWS tools and the test client at this stack. The credentials are the emulator's
    /// administrator, who exists nowhere else.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let ca_file = self.ca_file().display().to_string();
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_CA_BUNDLE", ca_file.clone()),
            ("SSL_CERT_FILE", ca_file),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("CUSTODY_OUTPUTS", self.outputs_file().display().to_string()),
            ("CUSTODY_API_KEY", self.api_key.clone()),
        ]
    }

    /// `command` with this stack as its AWS.
    pub(crate) fn point_at_it<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for foreign in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "SSL_CERT_DIR"] {
            command.env_remove(foreign);
        }
        command.envs(self.variables())
    }

    /// The same for a test, which may also break and look into the stack.
    pub(crate) fn point_test_at_it<'a>(
        &self,
        command: &'a mut Command,
        python: &tools::Python,
    ) -> &'a mut Command {
        self.point_at_it(command)
            .env("CUSTODY_PYTHON", python.bin().join("python"))
            .env("CUSTODY_STACK_FOLDER", &self.folder)
            .env("CUSTODY_LOCAL_STACK", Stack::of(self).name)
            .env("CUSTODY_CACHE_PORTS", self.cache_ports())
            .env("CUSTODY_CACHE_PASSWORD", &self.cache_password)
            .env("CUSTODY_CACHE_ADMIN_PASSWORD", &self.cache_admin_password)
    }

    /// The ports of the cache's nodes as text, separated by commas.
    fn cache_ports(&self) -> String {
        let ports = cache::present(&self.folder)
            .into_iter()
            .map(|number| self.ports.cache[number].client.to_string());
        ports.collect::<Vec<_>>().join(",")
    }

    /// Prints the variables for a shell.
    pub(crate) fn print_exports(&self) {
        for (name, value) in self.variables() {
            println!("export {name}='{value}'");
        }
    }

    /// Fails where anything of the stack still runs, as it must not after `down`.
    pub(crate) fn expect_gone(&self) -> anyhow::Result<()> {
        let cache = self.ports.cache.iter().map(|ports| ports.client);
        for port in [self.ports.gateway].into_iter().chain(cache) {
            if process::listens(port) {
                bail!("something still listens on port {port}, although the stack is down");
            }
        }
        match process::of_stack(&self.folder)?.as_slice() {
            [] => Ok(()),
            left => bail!("these processes are left although the stack is down: {left:?}"),
        }
    }

    /// What a person wants to know first.
    pub(crate) fn summary(&self) -> String {
        let output = |name: &str| self.outputs.get(name).map_or("(not deployed)", String::as_str);
        format!(
            "AWS endpoint:  {}\nPOST records:  {}\nAPI key:       cargo xtask{} env\nCache:         127.0.0.1, ports {}\nfolder:        {}",
            self.endpoint(),
            output("IngestUrl"),
            Stack::of(self).option(),
            self.cache_ports(),
            self.folder.strip_prefix(workspace::root()).unwrap_or(&self.folder).display(),
        )
    }
}

/// A password that only this stack has, from the kernel's randomness.
fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    let mut source = fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("read /dev/urandom")?;
    let mut password = String::new();
    for byte in bytes {
        write!(password, "{byte:02x}")?;
    }
    Ok(password)
}

/// Writes a file that only its owner may read.
fn write_private(file: &Path, content: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut open = options.open(file).with_context(|| format!("write {}", file.display()))?;
    open.write_all(content.as_bytes()).with_context(|| format!("write {}", file.display()))
}
