//! Builds with cargo. Cargo's own progress is shown: it is the long part of a first run.

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

/// The functions, as the folders under `functions/` name them.
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

/// What is built, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// What runs on a local stack, in the profile that compiles fast.
    Local,
    /// Everything in the workspace, in the same profile: after its tests were built, little is left to do.
    Workspace,
    /// What is measured, and what is deployed, in the profile that runs fast.
    Release,
}

/// Programs that were built: those of all functions, by name, and the tools beside them.
pub(crate) struct Programs {
    pub(crate) functions: Vec<(String, PathBuf)>,
    pub(crate) test_client: PathBuf,
    pub(crate) cli: PathBuf,
    bench: Option<PathBuf>,
}

impl Programs {
    /// The benchmark, whose baseline lies beside it, as the functions do.
    pub(crate) fn bench(&self) -> anyhow::Result<&Path> {
        self.bench.as_deref().context("the benchmark was not built")
    }
}

/// The tools beside the functions: package and program.
const TEST_CLIENT: (&str, &str) = ("custody-test-client", "custody-test-client");
const CLI: (&str, &str) = ("custody-cli", "custody");
const BENCH: (&str, &str) = ("custody-bench", "custody-bench");

/// The library that hides a processor's instructions for SHA-256 from what the benchmark measures.
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

/// The programs that a build made, by name.
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
