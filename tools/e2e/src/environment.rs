//! What `cargo xtask` tells the tests, and the scripts and files of its stack.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

/// Returns an environment variable that `cargo xtask test` sets.
#[expect(clippy::disallowed_methods, reason = "tests get their stack through the environment")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run these tests with `cargo xtask test` or `cargo xtask e2e`")
    })
}

/// Returns an environment variable that may be absent.
#[expect(clippy::disallowed_methods, reason = "tests get their stack through the environment")]
pub(crate) fn option_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns an output of the stack.
pub fn stack_output(name: &str) -> String {
    let file =
        std::fs::read_to_string(variable("CUSTODY_OUTPUTS")).expect("the stack's outputs are readable");
    let outputs: BTreeMap<String, String> = serde_json::from_str(&file).expect("the outputs are JSON");
    outputs.get(name).unwrap_or_else(|| panic!("the stack has no output {name}")).clone()
}

/// Runs one of the local stack's Python scripts and returns what it prints.
pub fn run_support_script(script: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../local-stack/python").join(script);
    let mut command = Command::new(variable("CUSTODY_PYTHON"));
    command.arg(path).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {script}"))?;
    child.stdin.take().context("the script's input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{script} {arguments:?} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Appends a line to a file of the stack.
pub(crate) fn append_to_file(name: &str, text: &str) -> anyhow::Result<()> {
    let file = PathBuf::from(variable("CUSTODY_STACK_FOLDER")).join(name);
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    // In one write: tests append at the same time.
    file.write_all(format!("{text}\n").as_bytes())?;
    Ok(())
}
