//! `custody-bench`: measures, prints tables, and writes JSON and a plot. `cargo xtask bench` builds what it needs.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod suite;

use std::{fs, process::ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use custody_bench::{
    builds::Builds,
    cache_bytes::{self, Load, Retention},
    deployment::Deployment,
    goals, plot, process, table,
};

use self::arguments::{Arguments, Command};

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.without_sha_instructions {
        process::hide_sha_instructions(&arguments.binaries.join("libcustody_no_sha.so"))?;
    }
    match &arguments.command {
        None => benchmark(&arguments),
        Some(Command::CacheBytes(load)) => cache_bytes(&arguments, load),
    }
}

fn benchmark(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let copies =
        arguments.before.as_ref().map(|before| Builds::copy(&arguments.binaries, before)).transpose()?;
    let figures = suite::measure(arguments, copies.as_ref())?;
    println!("{}", table::render(&figures));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &arguments.svg {
        let picture = plot::draw(&figures).context("draw the plot")?;
        fs::write(file, picture).with_context(|| format!("write {}", file.display()))?;
    }
    if !arguments.goal {
        return Ok(ExitCode::SUCCESS);
    }
    let verdict = goals::verdict(&figures.goals);
    let (Ok(line) | Err(line)) = &verdict;
    println!("{line}");
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cache_bytes(arguments: &Arguments, load: &Load) -> anyhow::Result<ExitCode> {
    let deployment = Deployment::start(arguments.latencies())?;
    let measure = |retention| cache_bytes::measure(load, retention, &deployment, &arguments.binaries);
    let unlinked = measure(Retention::Unlinked)?;
    let kept = measure(Retention::Grace(load.grace))?;
    println!("Machine: {}\n\n{}", process::machine(), table::cache_bytes(load, &unlinked, &kept));
    Ok(ExitCode::SUCCESS)
}
