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
    command
}

/// Builds the release binaries of all functions; name and path of each.
pub(crate) fn functions() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let names = function_names()?;
    let built = release_binaries(&names)?;
    let missing: Vec<_> = names.iter().filter(|name| !built.iter().any(|(built, _)| built == *name)).collect();
    if !missing.is_empty() {
        bail!("cargo built no binary for {missing:?}");
    }
    Ok(built)
}

/// Builds the test client; its path.
pub(crate) fn test_client() -> anyhow::Result<PathBuf> {
    let built = release_binaries(&["custody-test-client".to_owned()])?;
    built.into_iter().map(|(_, path)| path).next().context("cargo built no test client")
}

fn release_binaries(packages: &[String]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    println!("Building {} (release)", packages.join(", "));
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
