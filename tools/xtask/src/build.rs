//! Builds programs with cargo. Cargo's own progress is shown, because the build is the longest part of a first run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use custody_local_stack::workspace;
use serde_json::Value;
use xshell::cmd;

use crate::shell;

/// Returns the names of the functions: the names of the folders under `functions/`.
pub(crate) fn function_names() -> anyhow::Result<Vec<String>> {
    let folder = workspace::root().join("functions");
    let mut names = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The programs to build, and the profile to build them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// The programs that run on a local stack, in the profile that compiles fast.
    Local,
    /// All programs of the workspace, in the same profile. After the workspace's tests were built, little is left to
    /// compile.
    Workspace,
    /// The programs that are measured and deployed, in the profile that runs fast.
    Release,
}

/// The paths of the programs that were built: all functions, by name, and the tools.
pub(crate) struct Programs {
    pub(crate) functions: Vec<(String, PathBuf)>,
    pub(crate) test_client: PathBuf,
    pub(crate) cli: PathBuf,
    bench: Option<PathBuf>,
}

impl Programs {
    /// Returns the path of the benchmark. The programs of the baseline and of the functions are in the same folder.
    pub(crate) fn bench(&self) -> anyhow::Result<&Path> {
        self.bench.as_deref().context("the benchmark was not built")
    }
}

/// A tool, apart from the functions: its package and its program.
const TEST_CLIENT: (&str, &str) = ("custody-test-client", "custody-test-client");
const CLI: (&str, &str) = ("custody-cli", "custody");
const BENCH: (&str, &str) = ("custody-bench", "custody-bench");

/// The package of the library that hides a processor's SHA-256 instructions from the measured programs.
const NO_SHA: &str = "custody-no-sha";

/// Builds programs in one call of cargo. Two calls would settle on two sets of features and build shared dependencies twice.
pub(crate) fn programs(build: Build) -> anyhow::Result<Programs> {
    let functions = function_names()?;
    let sh = shell::in_workspace()?;
    let build_programs = cmd!(sh, "cargo build --locked --message-format json-render-diagnostics");
    let local = functions.iter().map(String::as_str).chain([TEST_CLIENT.0, CLI.0]);
    let packages = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        names.flat_map(|name| ["--package".to_owned(), name.to_owned()]).collect()
    };
    let command = match build {
        Build::Local => build_programs.args(packages(&mut local.into_iter())),
        // This program must not be replaced while it runs.
        Build::Workspace => build_programs.args(["--workspace", "--exclude", "xtask", "--bins"]),
        Build::Release => build_programs
            .args(["--release", "--features", "custody-bench/aws-lc"])
            .args(packages(&mut local.chain([BENCH.0, NO_SHA]))),
    };
    let mut executables_by_name = executables(shell::cargo(command))?;
    let mut take = |name: &str| {
        executables_by_name.remove(name).with_context(|| format!("cargo built no program {name}"))
    };
    Ok(Programs {
        test_client: take(TEST_CLIENT.1)?,
        cli: take(CLI.1)?,
        functions: functions
            .iter()
            .map(|name| Ok((name.clone(), take(name)?)))
            .collect::<anyhow::Result<_>>()?,
        bench: take(BENCH.1).ok(),
    })
}

/// Runs a build and returns the programs that it has built, by name.
fn executables(mut command: Command) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo build")?;
    if !output.status.success() {
        bail!("`cargo build` ended with {}", output.status);
    }
    let mut programs = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        if let (Some(name), Some(path)) = (message["target"]["name"].as_str(), message["executable"].as_str())
        {
            programs.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(programs)
}
