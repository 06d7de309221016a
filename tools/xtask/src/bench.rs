//! Runs the benchmark with everything that it needs: release binaries, Redis, and Python with the AWS SDK to compare
//! start times with.

use std::{path::Path, process::Command};

use anyhow::Context as _;
use custody_local_stack::tools::{self, Python};

use crate::build::{self, Build};

/// Builds the programs and runs the benchmark on them. Returns its exit status.
pub(crate) fn run(build: Build, arguments: &[String]) -> anyhow::Result<Option<i32>> {
    let programs = build::programs(build)?;
    let redis_server = tools::redis_server()?;
    let python = Python::ready()?;
    let program = programs.bench()?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let mut bench = Command::new(program);
    bench.arg("--binaries").arg(folder).arg("--python").arg(python.bin().join("python"));
    for (name, _) in &programs.functions {
        bench.args(["--function", name]);
    }
    let status = bench.args(arguments).env("CUSTODY_REDIS_SERVER", redis_server).status();
    Ok(status.context("run the benchmark")?.code())
}
