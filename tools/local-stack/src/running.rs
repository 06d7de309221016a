//! A stack that runs: its ports, its passwords, and the environment that points a program at it.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};
use custody_redis_cluster::free_port;
use serde::{Deserialize, Serialize};

use crate::{
    Stack,
    cache::{self, NodePorts},
    deploy,
    files::write_private,
    process, tools, workspace,
};

/// The data of a running stack. It is stored in `stack.json`, which only its owner may read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pub(crate) folder: PathBuf,
    pub(crate) ports: Ports,
    /// What the passwords of the functions' users of the cache begin with.
    pub(crate) cache_password: String,
    /// The password of the cache's user `admin`, which only nodes and tests know.
    pub(crate) cache_admin_password: String,
    /// The fingerprint of what was deployed; empty before the first deployment.
    pub(crate) fingerprint: String,
    pub(crate) outputs: BTreeMap<String, String>,
    /// The API key of the stack's producer; empty before the first deployment.
    pub(crate) api_key: String,
}

/// The loopback ports of a stack.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) gateway: u16,
    /// The ports of the cache's nodes, including those of the shard that can be added.
    pub(crate) cache: [NodePorts; cache::NODES],
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self { gateway: free_port(), cache: std::array::from_fn(|_| NodePorts::free()) }
    }
}

/// The outputs that repeat a parameter, so that tools know it: two deployments may have the same value.
const SETTINGS: [&str; 4] = ["StateMachineType", "CacheAdmission", "AutoRedrive", "RedriveMaxAttempts"];

/// The emulated AWS, in messages.
pub(crate) const MINISTACK: &str = "MiniStack";

impl Running {
    /// Returns the names of the outputs that two deployments have in common although each should have a resource of its own.
    pub fn shared_outputs<'a>(&'a self, other: &Self) -> Vec<&'a str> {
        let is_shared = |(name, value): &(&String, &String)| {
            !SETTINGS.contains(&name.as_str()) && other.outputs.get(*name) == Some(*value)
        };
        self.outputs.iter().filter(is_shared).map(|(name, _)| name.as_str()).collect()
    }

    /// Returns one output of the deployment.
    pub fn output(&self, name: &str) -> anyhow::Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| format!("the stack has no output {name}"))
    }

    /// Returns the API key of the deployment's producer.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// Returns the file to which the end-to-end suites append their exchanges with the API.
    pub fn exchanges_file(&self) -> PathBuf {
        self.folder.join("exchanges.jsonl")
    }

    /// Returns the file to which the end-to-end suites append the messages that they have received.
    pub fn messages_file(&self) -> PathBuf {
        self.folder.join("messages-seen.log")
    }

    /// Returns the file to which the end-to-end suites append what `custody --json` has printed.
    pub fn cli_outputs_file(&self) -> PathBuf {
        self.folder.join("cli-outputs.jsonl")
    }

    /// Returns the file to which the emulator appends the permissions that requests have used.
    pub fn permissions_file(&self) -> PathBuf {
        self.folder.join("permissions-used.jsonl")
    }

    /// Returns the password of a function's user of the cache.
    pub(crate) fn cache_password_of(&self, function: &str) -> String {
        format!("{}-{function}", self.cache_password)
    }

    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let file = self.folder.join("stack.json");
        write_private(&file, &serde_json::to_string_pretty(self)?)?;
        let outputs = serde_json::to_string_pretty(&self.outputs)?;
        write_private(&self.outputs_file(), &outputs)
    }

    /// Returns the parts of the stack that no longer listen on their ports.
    pub(crate) fn ended_parts(&self) -> Vec<String> {
        let cache = cache::present(&self.folder).into_iter();
        let nodes = cache.map(|number| {
            (
                format!("node {} of the cache (port {})", number + 1, self.ports.cache[number].client),
                self.ports.cache[number].client,
            )
        });
        let parts = [(MINISTACK.to_owned(), self.ports.gateway)].into_iter().chain(nodes);
        parts.filter(|(_, port)| !process::listens(*port)).map(|(part, _)| part).collect()
    }

    /// Returns the file with the outputs of the deployment.
    pub fn outputs_file(&self) -> PathBuf {
        self.folder.join("outputs.json")
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports.gateway)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("tls/ca.pem")
    }

    /// Returns the environment variables that point AWS tools and the test client at this stack. The credentials are
    /// those of the emulator's administrator, and are valid only there.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let ca_file = self.ca_file().display().to_string();
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_CA_BUNDLE", ca_file.clone()),
            ("SSL_CERT_FILE", ca_file.clone()),
            ("CURL_CA_BUNDLE", ca_file.clone()),
            ("NODE_EXTRA_CA_CERTS", ca_file),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("CUSTODY_OUTPUTS", self.outputs_file().display().to_string()),
            ("CUSTODY_API_KEY", self.api_key.clone()),
            ("CUSTODY_URL", self.outputs.get("IngestUrl").cloned().unwrap_or_default()),
        ]
    }

    /// Sets the environment of `command` so that it uses this stack as its AWS.
    pub fn point_at_stack<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for foreign in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "SSL_CERT_DIR"] {
            command.env_remove(foreign);
        }
        command.envs(self.variables())
    }

    /// Sets the environment of a test so that it uses this stack as its AWS, and so that it may also break and inspect
    /// the stack.
    pub fn point_test_at_stack<'a>(
        &self,
        command: &'a mut Command,
        python: &tools::Python,
    ) -> &'a mut Command {
        self.point_at_stack(command)
            .env("CUSTODY_PYTHON", python.bin().join("python"))
            .env("CUSTODY_STACK_FOLDER", &self.folder)
            .env("CUSTODY_REFERENCE_BUCKET", deploy::REFERENCE_BUCKET)
            .env("CUSTODY_LOCAL_STACK", Stack::of(self).name)
            .env("CUSTODY_CACHE_PORTS", self.cache_ports())
            .env("CUSTODY_CACHE_PASSWORD", &self.cache_password)
            .env("CUSTODY_CACHE_ADMIN_PASSWORD", &self.cache_admin_password)
    }

    /// Returns the ports of the cache's nodes as text, separated by commas.
    fn cache_ports(&self) -> String {
        let ports = cache::present(&self.folder)
            .into_iter()
            .map(|number| self.ports.cache[number].client.to_string());
        ports.collect::<Vec<_>>().join(",")
    }

    /// Prints the variables as `export` commands for a shell.
    pub fn print_exports(&self) {
        for (name, value) in self.variables() {
            println!("export {name}='{value}'");
        }
    }

    /// Fails if any process of the stack still runs. Nothing must run after `down`.
    pub fn expect_gone(&self) -> anyhow::Result<()> {
        let cache = self.ports.cache.iter().map(|ports| ports.client);
        for port in [self.ports.gateway].into_iter().chain(cache) {
            if process::listens(port) {
                bail!("something still listens on port {port}, although the stack is down");
            }
        }
        match process::processes_of_stack(&self.folder)?.as_slice() {
            [] => Ok(()),
            left => bail!("these processes are left although the stack is down: {left:?}"),
        }
    }

    /// Returns a summary for a person: addresses, API key and folder.
    pub fn summary(&self) -> String {
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
