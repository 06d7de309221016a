//! A deployment that is made for a test and removed after it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use custody_local_stack::{REFERENCE_BUCKET, Running, add_producer, progress, tools::Python, workspace};
use serde_json::Value;

use crate::package;

/// A deployment that is being tested, from before it exists until it is removed.
pub(super) struct Trial {
    /// The name of its stack.
    pub(super) name: String,
    /// The Unix time at which it was made, in seconds.
    pub(super) began: u64,
    /// The folder with its outputs and with what suites have seen.
    folder: PathBuf,
    account: Account,
    stack: Python,
    api_key: String,
}

/// Where the deployment is.
enum Account {
    Aws {
        /// The variables that AWS tools read.
        variables: BTreeMap<&'static str, String>,
    },
    /// The emulator, with the deployment's outputs and its producer.
    Local(Box<Running>),
}

impl Trial {
    /// Describes a deployment on AWS, which need not exist yet.
    pub(super) fn on_aws(name: &str, profile: Option<&str>, region: &str) -> anyhow::Result<Self> {
        let mut variables =
            BTreeMap::from([("AWS_REGION", region.to_owned()), ("AWS_DEFAULT_REGION", region.to_owned())]);
        variables.extend(profile.map(|profile| ("AWS_PROFILE", profile.to_owned())));
        Self::new(name, Account::Aws { variables })
    }

    /// Describes a deployment on the local stack.
    pub(super) fn on_local_stack(name: &str, deployed: Running) -> anyhow::Result<Self> {
        Self::new(name, Account::Local(Box::new(deployed)))
    }

    fn new(name: &str, account: Account) -> anyhow::Result<Self> {
        let folder = workspace::state().join("aws-test").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let began = unix_seconds()?;
        Ok(Self {
            name: name.to_owned(),
            began,
            folder,
            account,
            stack: Python::ready()?,
            api_key: String::new(),
        })
    }

    /// Builds and deploys as README's "Deploy to AWS" says.
    pub(super) fn deploy(&self, parameters: &[String]) -> anyhow::Result<()> {
        let before = self.output_of("describe.py", &[])?;
        fs::write(self.log_role_file(), before.as_str().unwrap_or_default())?;
        let built = package::sam_build(None, false)?.join("template.yaml");
        let mut sam = self.stack.command("sam");
        sam.current_dir(workspace::root())
            .env("SAM_CLI_TELEMETRY", "0")
            .arg("deploy")
            .arg("--template-file")
            .arg(built);
        sam.args([
            "--stack-name",
            &self.name,
            "--resolve-s3",
            "--s3-prefix",
            &self.name,
            "--no-confirm-changeset",
            "--no-progressbar",
            // SAM looks for samconfig.toml beside the built template, so its settings are here.
            "--capabilities",
            "CAPABILITY_IAM",
        ]);
        sam.args(["--tags", &format!("custody-test={}", self.name), "--parameter-overrides"]);
        // One small shard, and the shortest lock: the records are no evidence. A mode of COMPLIANCE could not be removed.
        // A name of its own keeps the alarms of other deployments from counting the test's errors.
        sam.arg(format!("ProjectName={}", self.name));
        sam.args(["DemoSubscriber=true", "CacheNodeType=cache.m7g.large", "CacheShards=1"]);
        sam.args(["ObjectLockMode=GOVERNANCE", "ArchiveRetentionDays=1"])
            .arg(format!("ReferenceSources=arn:aws:s3:::{}/*", self.reference_bucket()))
            .args(parameters);
        progress::run_visibly(self.point_at_account(&mut sam))?;
        let outputs = self.output_of("describe.py", &[&self.name])?;
        fs::write(self.outputs_file(), outputs.to_string())?;
        Ok(())
    }

    /// Adds a producer that may write records of every source system. A deployment on the local stack has one.
    pub(super) fn add_producer(&mut self, cli: &Path) -> anyhow::Result<()> {
        self.api_key = match &self.account {
            Account::Local(running) => running.api_key().to_owned(),
            Account::Aws { .. } => add_producer(cli, &self.name, |custody| self.point_at_account(custody))?,
        };
        Ok(())
    }

    /// Removes the deployment with all that it retains.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        let log_role = fs::read_to_string(self.log_role_file()).unwrap_or_default();
        let state = self.folder.join("resources.json").display().to_string();
        self.script("remove.py", &[&self.name, &log_role, &state])?;
        fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))
    }

    /// Runs one of the Python scripts of this test, and shows what it prints.
    pub(super) fn script(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        progress::run_visibly(&mut self.script_command(name, arguments))
    }

    fn output_of(&self, script: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.script_command(script, arguments).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "{script} ended with {}", output.status);
        serde_json::from_slice(&output.stdout).with_context(|| format!("read what {script} prints"))
    }

    fn script_command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.stack.command("python");
        command.arg(workspace::root().join("tools/xtask/aws-test").join(name)).args(arguments);
        self.point_at_account(&mut command);
        command
    }

    /// Sets the environment of a test client or of a suite. It has nothing with which a suite could break or inspect a local stack.
    pub(super) fn point<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.point_at_account(command)
            .env("CUSTODY_OUTPUTS", self.outputs_file())
            .env("CUSTODY_API_KEY", &self.api_key)
            .env("CUSTODY_STACK_NAME", &self.name)
            .env("CUSTODY_STACK_FOLDER", &self.folder)
            .env("CUSTODY_PYTHON", self.stack.bin().join("python"))
            .env("CUSTODY_REFERENCE_BUCKET", self.reference_bucket())
            .env("CUSTODY_NEW_KEYS_WAIT", matches!(self.account, Account::Aws { .. }).to_string())
    }

    fn point_at_account<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        match &self.account {
            Account::Aws { variables } => command.envs(variables),
            Account::Local(running) => running.point_at_stack(command),
        }
    }

    fn outputs_file(&self) -> PathBuf {
        match &self.account {
            Account::Aws { .. } => self.folder.join("outputs.json"),
            Account::Local(running) => running.outputs_file(),
        }
    }

    /// Returns the bucket whose objects producers may send by reference.
    fn reference_bucket(&self) -> String {
        match self.account {
            Account::Aws { .. } => format!("{}-sources", self.name),
            Account::Local(_) => REFERENCE_BUCKET.to_owned(),
        }
    }

    fn log_role_file(&self) -> PathBuf {
        self.folder.join("log-role")
    }
}

/// Returns the present Unix time.
#[expect(clippy::disallowed_methods, reason = "the test of a deployment is no test of a stage")]
pub(super) fn unix_seconds() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_secs())
}
