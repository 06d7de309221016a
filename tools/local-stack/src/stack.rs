//! A local stack by its name: start, stop, look.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    Running, Workflows,
    cache::Cache,
    certificates, deploy,
    files::random_password,
    ministack, process, progress,
    running::{MINISTACK, Ports},
    tools, workspace,
};

/// A local stack, identified by its name. It may be running or not.
#[derive(Debug)]
pub struct Stack {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// The CloudFormation stack of the second deployment.
pub const SECOND_STACK_NAME: &str = "custody-two";

/// Parses the name of a stack, which is also the name of its folder.
pub fn parse_name(text: &str) -> Result<String, String> {
    if !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Ok(text.to_owned());
    }
    Err("a stack's name must have 1 to 32 characters: lower-case letters, digits and hyphens".to_owned())
}

impl Stack {
    /// Returns the stack of this name.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), folder: workspace::state().join("stacks").join(name) }
    }

    pub(crate) fn of(running: &Running) -> Self {
        let name = running.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, folder: running.folder.clone() }
    }

    /// Starts the stack, deploys to it with these functions (name and program of each), and adds a producer with the
    /// operator's tool `cli`. What runs already and is up to date is left alone.
    pub fn up(
        &self,
        functions: &[(String, PathBuf)],
        cli: &Path,
        workflows: Workflows,
    ) -> anyhow::Result<Running> {
        let python = tools::Python::ready()?;
        let mut running = self.start_without_deployment()?;
        let fingerprint = deploy::fingerprint(functions, workflows)?;
        if running.fingerprint != fingerprint {
            running.outputs = progress::step("Deploying template.yaml", || {
                deploy::deploy(&running, &python, functions, workflows, deploy::STACK_NAME, &BTreeMap::new())
            })?;
            if running.api_key.is_empty() {
                running.api_key =
                    deploy::add_producer(cli, deploy::STACK_NAME, |custody| running.point_at_stack(custody))?;
            }
            running.fingerprint = fingerprint;
            running.save()?;
        }
        Ok(running)
    }

    /// Starts the stack's services. What runs already is left alone.
    pub fn start_without_deployment(&self) -> anyhow::Result<Running> {
        let python = tools::Python::ready()?;
        let redis_server = tools::redis_server()?;
        println!("Local stack `{}`", self.name);
        let Some(running) = self.saved_data() else { return self.start(&python, &redis_server) };
        let ended = running.ended_parts();
        if ended.is_empty() {
            return Ok(running);
        }
        let restarted =
            progress::step(&format!("Starting {} again, with its data", ended.join(", ")), || {
                if ended.iter().any(|part| part == MINISTACK) {
                    ministack::start(&running, &python)?;
                }
                Cache::of(&running, &redis_server).start_again()
            });
        match restarted {
            Ok(()) => Ok(running),
            Err(error) => {
                println!("  ! {error:#}; the stack starts anew, without its data");
                self.start(&python, &redis_server)
            }
        }
    }

    /// Deploys the template to the same account and Region under the name `stack_name` and with these parameters. Returns that
    /// deployment, which uses the services and the cache of this stack, and has its own producer.
    pub fn deploy_beside(
        running: &Running,
        stack_name: &str,
        functions: &[(String, PathBuf)],
        cli: &Path,
        workflows: Workflows,
        parameters: &BTreeMap<String, String>,
    ) -> anyhow::Result<Running> {
        let folder = running.folder.join(stack_name);
        for part in ["logs", "tmp"] {
            fs::create_dir_all(folder.join(part)).with_context(|| format!("make {}", folder.display()))?;
        }
        std::os::unix::fs::symlink(running.folder.join("tls"), folder.join("tls"))
            .context("link the authority")?;
        let mut beside = Running { folder, outputs: BTreeMap::new(), ..running.clone() };
        let python = tools::Python::ready()?;
        beside.outputs = deploy::deploy(&beside, &python, functions, workflows, stack_name, parameters)?;
        beside.api_key = deploy::add_producer(cli, stack_name, |custody| beside.point_at_stack(custody))?;
        beside.save()?;
        Ok(beside)
    }

    fn start(&self, python: &tools::Python, redis_server: &Path) -> anyhow::Result<Running> {
        // Removes what a crashed stack has left behind.
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

    /// Returns the stack if it runs. A part of the cache may be broken: people break it on purpose, and look what happens.
    pub fn running(&self) -> anyhow::Result<Running> {
        let up = format!("cargo xtask{} up", self.option());
        let Some(running) = self.saved_data() else {
            bail!("stack `{}` is not running; start it with `{up}`", self.name);
        };
        for part in running.ended_parts() {
            let ended =
                format!("{part} of stack `{}` has ended; `{up}` starts it again, with its data", self.name);
            if part == MINISTACK {
                bail!(ended);
            }
            eprintln!("note: {ended}");
        }
        Ok(running)
    }

    /// Returns the data that was saved when the stack was started.
    pub(crate) fn saved_data(&self) -> Option<Running> {
        serde_json::from_str(&fs::read_to_string(self.folder.join("stack.json")).ok()?).ok()
    }

    /// Returns the command-line option that selects this stack, for messages.
    pub(crate) fn option(&self) -> String {
        if self.name == "default" { String::new() } else { format!(" --stack {}", self.name) }
    }

    /// Ends every process of the stack and removes its folder.
    pub fn down(&self) -> anyhow::Result<()> {
        let ended = process::end_all(&self.folder)?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("remove {}", self.folder.display()))?;
        }
        println!("Stack `{}` is down ({ended} processes ended).", self.name);
        Ok(())
    }

    /// Ends the processes of an earlier run of this stack and removes its folder. Prints nothing.
    pub fn remove_leftovers(&self) -> anyhow::Result<()> {
        process::end_all(&self.folder)?;
        drop(fs::remove_dir_all(&self.folder));
        Ok(())
    }

    /// Copies the logs of the stack to `folder`. Ignores logs that cannot be copied.
    pub fn copy_logs(&self, folder: &Path) {
        drop(fs::create_dir_all(folder));
        for entry in self.folder.join("logs").read_dir().into_iter().flatten().flatten() {
            drop(fs::copy(entry.path(), folder.join(entry.file_name())));
        }
    }

    /// Prints the addresses of the stack's parts, and the number of its processes.
    pub fn status(&self) -> anyhow::Result<()> {
        let running = self.running()?;
        println!("{}", running.summary());
        println!("processes: {}", process::processes_of_stack(&self.folder)?.len());
        Ok(())
    }

    /// Prints the logs of a function, or of a process of the stack.
    pub fn logs(&self, of: &str) -> anyhow::Result<()> {
        // The logs of the stack's own processes are files, which can be read after a crash as well.
        let file = self.folder.join("logs").join(format!("{of}.log"));
        if file.exists() {
            print!("{}", fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?);
            return Ok(());
        }
        let running = self.running()?;
        let python = tools::Python::ready()?;
        let mut command = python.command("python");
        command.arg(workspace::python_files().join("logs.py")).arg(of);
        progress::run_visibly(running.point_at_stack(&mut command))
    }
}
