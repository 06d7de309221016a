//! Builds with cargo. Cargo's own progress is shown: it is the long part of a first run.

use std::{
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

/// The release binaries: those of all functions, by name, and the test client.
pub(crate) struct Release {
    pub(crate) functions: Vec<(String, PathBuf)>,
    pub(crate) test_client: PathBuf,
}

const TEST_CLIENT: &str = "custody-test-client";

/// Builds the release binaries, in one call of cargo: two calls would settle on two sets of features, and build
/// shared dependencies twice.
pub(crate) fn release() -> anyhow::Result<Release> {
    let mut names = function_names()?;
    names.push(TEST_CLIENT.to_owned());
    let mut functions = release_binaries(&names)?;
    let missing: Vec<_> =
        names.iter().filter(|name| !functions.iter().any(|(built, _)| built == *name)).collect();
    if !missing.is_empty() {
        bail!("cargo built no binary for {missing:?}");
    }
    let test_client =
        functions.iter().position(|(name, _)| name == TEST_CLIENT).context("the test client is built")?;
    let (_, test_client) = functions.swap_remove(test_client);
    functions.sort();
    Ok(Release { functions, test_client })
}

fn release_binaries(packages: &[String]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--message-format", "json-render-diagnostics"]);
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run cargo build")?;
    if !output.status.success() {
        bail!("`cargo build --release` ended with {}", output.status);
    }
    let mut binaries = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_default();
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(path) = message["executable"].as_str()
            && packages.iter().any(|package| package == name)
        {
            binaries.push((name.to_owned(), PathBuf::from(path)));
        }
    }
    Ok(binaries)
}
