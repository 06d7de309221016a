//! The benchmark, with all that it needs: release binaries, Redis, and Python with AWS's SDK to compare starts with.

use std::{path::Path, process::Command};

use anyhow::Context as _;

use crate::{
    build,
    tools::{self, Python},
};

/// Runs the benchmark. The result is its exit status.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<Option<i32>> {
    let release = build::release()?;
    let redis_server = tools::redis_server()?;
    let python = Python::ready()?;
    let folder = release.bench.parent().unwrap_or(Path::new("."));
    let mut bench = Command::new(&release.bench);
    bench.arg("--binaries").arg(folder).arg("--python").arg(python.bin().join("python"));
    for (name, _) in &release.functions {
        bench.args(["--function", name]);
    }
    let status = bench.args(arguments).env("CUSTODY_REDIS_SERVER", redis_server).status();
    Ok(status.context("run the benchmark")?.code())
}
