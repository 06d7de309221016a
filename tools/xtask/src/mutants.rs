//! Tests of tests with cargo-mutants: core is broken on purpose, one place at a time, and some test must fail each time.
//!
//! `.cargo/mutants.toml` names the files, the tests, and the mutants that are accepted although no test catches them.

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash as _, Hasher as _},
};

use anyhow::{bail, ensure};
use custody_local_stack::{tools, workspace};
use xshell::{Shell, cmd};

use crate::shell;

/// The version of cargo-mutants that is installed where there is none.
const VERSION: &str = "27.1.0";

/// How many mutants a sample has.
const SAMPLE: usize = 20;

/// The exit status of cargo-mutants when some tests did not end in time. It says nothing about mutants that were not caught.
const ENDLESS_TESTS: i32 = 3;

/// Tries every mutant: `cargo xtask mutants`.
pub(crate) fn all(arguments: &[String]) -> anyhow::Result<()> {
    run(&shell::in_workspace()?, arguments)
}

/// Tries a sample of the mutants, chosen by the hash of the commit, so that another commit has another sample: `cargo xtask
/// mutants --sample`.
pub(crate) fn sample() -> anyhow::Result<()> {
    let sh = shell::in_workspace()?;
    let mutants = tools::cargo_tool("cargo-mutants", VERSION)?;
    let list = cmd!(sh, "{mutants} mutants --list").quiet().read()?;
    let shards = (list.lines().count() / SAMPLE).max(1);
    let commit = cmd!(sh, "git rev-parse HEAD").quiet().ignore_stderr().read().unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    commit.hash(&mut hasher);
    let shard = usize::try_from(hasher.finish() % u64::try_from(shards)?)?;
    let arguments = ["--sharding", "round-robin", "--shard", &format!("{shard}/{shards}")].map(str::to_owned);
    run(&sh, &arguments)
}

fn run(sh: &Shell, arguments: &[String]) -> anyhow::Result<()> {
    let mutants = tools::cargo_tool("cargo-mutants", VERSION)?;
    let output = workspace::state();
    let command = cmd!(sh, "{mutants} mutants --no-shuffle --colors never --output {output} {arguments...}")
        // The mutants are built in a copy of the workspace. In this folder, its dependencies have been built already.
        .env("CARGO_TARGET_DIR", workspace::root().join("target"));
    match shell::cargo(command).status()?.code() {
        Some(0) => Ok(()),
        // A mutant that makes a test run for ever is caught: the test does not pass.
        Some(ENDLESS_TESTS) => {
            let missed = fs::read_to_string(output.join("mutants.out/missed.txt"))?;
            ensure!(missed.trim().is_empty(), "no test caught these mutants:\n{missed}");
            Ok(())
        }
        code => bail!(
            "cargo-mutants ended with {code:?}; .custody/mutants.out/missed.txt lists the mutants that no test caught"
        ),
    }
}
