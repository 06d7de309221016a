//! Builds with cargo. Cargo's own progress is shown: it is the long part of a first run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
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

/// The release binaries: those of all functions, by name, the test client, the operator's tool, and the benchmark.
pub(crate) struct Release {
    pub(crate) functions: Vec<(String, PathBuf)>,
    pub(crate) test_client: PathBuf,
    pub(crate) cli: PathBuf,
    pub(crate) bench: PathBuf,
}

/// The tools beside the functions: package and binary.
const TEST_CLIENT: (&str, &str) = ("custody-test-client", "custody-test-client");
const CLI: (&str, &str) = ("custody-cli", "custody");
const BENCH: (&str, &str) = ("custody-bench", "custody-bench");

/// Builds the release binaries, in one call of cargo: two calls would settle on two sets of features, and build
/// shared dependencies twice.
pub(crate) fn release() -> anyhow::Result<Release> {
    let functions = function_names()?;
    let mut wanted: Vec<_> = functions.iter().map(|name| (name.as_str(), name.as_str())).collect();
    wanted.extend([TEST_CLIENT, CLI, BENCH]);
    let mut built = release_binaries(&wanted)?;
    let mut take = |name: &str| built.remove(name).with_context(|| format!("cargo built no binary {name}"));
    let (test_client, cli, bench) = (take(TEST_CLIENT.1)?, take(CLI.1)?, take(BENCH.1)?);
    let functions =
        functions.iter().map(|name| Ok((name.clone(), take(name)?))).collect::<anyhow::Result<_>>()?;
    Ok(Release { functions, test_client, cli, bench })
}

fn release_binaries(wanted: &[(&str, &str)]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--message-format", "json-render-diagnostics"]);
    for (package, _) in wanted {
        command.args(["--package", package]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo build")?;
    if !output.status.success() {
        bail!("`cargo build --release` ended with {}", output.status);
    }
    let mut binaries = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(path) = message["executable"].as_str()
            && wanted.iter().any(|(_, binary)| *binary == name)
        {
            binaries.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    Ok(binaries)
}
