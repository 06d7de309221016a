//! Builds with cargo. Cargo's own progress is shown: it is the long part of a first run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::workspace;

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

/// A cargo command in the workspace, with the toolchain that runs this program.
pub(crate) fn cargo() -> Command {
    #[expect(clippy::disallowed_methods, reason = "cargo tells its children where it is")]
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    // `cargo run` describes this program in variables that build scripts of dependencies (ring's) watch: handed on,
    // they would make every dependency build anew between a `cargo build` and a `cargo xtask`.
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
    command
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

/// Builds programs, in one call of cargo: two calls would settle on two sets of features, and build shared dependencies
/// twice.
pub(crate) fn programs(build: Build) -> anyhow::Result<Programs> {
    let functions = function_names()?;
    let mut command = cargo();
    command.args(["build", "--locked", "--message-format", "json-render-diagnostics"]);
    if build == Build::Workspace {
        // This program is not to be replaced while it runs.
        command.args(["--workspace", "--exclude", "xtask", "--bins"]);
    } else {
        let measuring = if build == Build::Release { &[BENCH.0, NO_SHA][..] } else { &[] };
        let tools = [TEST_CLIENT.0, CLI.0].into_iter().chain(measuring.iter().copied());
        command.args(functions.iter().map(String::as_str).chain(tools).flat_map(|name| ["--package", name]));
    }
    if build == Build::Release {
        command.args(["--release", "--features", "custody-bench/aws-lc"]);
    }
    let mut made = executables(&mut command)?;
    let mut take = |name: &str| made.remove(name).with_context(|| format!("cargo built no program {name}"));
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
fn executables(command: &mut Command) -> anyhow::Result<BTreeMap<String, PathBuf>> {
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
