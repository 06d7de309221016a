//! The command line of the benchmark.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use custody_bench::{cache_bytes::Load, latencies::Latencies};

/// Measures the functions against a baseline, which only moves the bytes.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Write the figures to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Draw the figures into this file, as SVG.
    #[arg(long)]
    pub(crate) svg: Option<PathBuf>,
    /// End with status 1 if a target is missed; the last line names it.
    #[arg(long)]
    pub(crate) goal: bool,
    /// Measure only a few records of each kind, to check that the harness works. The figures mean nothing.
    #[arg(long, conflicts_with = "goal")]
    pub(crate) brief: bool,
    /// Do not measure the curve of throughput.
    #[arg(long)]
    pub(crate) targets_only: bool,
    /// Make the baseline of ingest write the payload in base64, as the event carries it, instead of as many bytes as
    /// the decoded payload has.
    #[arg(long)]
    pub(crate) encoded_baseline: bool,
    /// Run only the measurements whose names begin with this text, such as `ingest at 6 MB` or `archive`. Targets that
    /// need other measurements count as not measured.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Delay the answers of the AWS stub: `aws` for latencies like those of AWS, or latencies by operation:
    /// `StartExecution=300ms,PutItem=4ms`.
    #[arg(long)]
    latency: Option<Latencies>,
    /// Measure ingest and archive of another build, too: those in this folder. Both builds take turns, record by record, so
    /// that their ratio is free of the machine's noise.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) before: Option<PathBuf>,
    /// Hide the processor's SHA-256 instructions from everything that is measured, as if the processor had none.
    #[arg(long)]
    pub(crate) without_sha_instructions: bool,
    /// The folder of the release binaries.
    #[arg(long, hide = true)]
    pub(crate) binaries: PathBuf,
    /// The name of a function; given once for each function.
    #[arg(long = "function", hide = true)]
    pub(crate) functions: Vec<String>,
    /// A Python interpreter with `boto3`.
    #[arg(long, hide = true)]
    pub(crate) python: Option<PathBuf>,
}

/// A measurement of something other than times.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Measure the bytes that the cache holds at a steady rate: once with payloads that are unlinked when their records
    /// are completed, and once with payloads that expire after a grace period.
    CacheBytes(Load),
}

impl Arguments {
    /// Returns the latencies of the AWS stub.
    pub(crate) fn latencies(&self) -> Latencies {
        self.latency.clone().unwrap_or_default()
    }

    /// Returns whether the measurement of this name is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only))
    }

    /// Returns the command line that repeats these measurements.
    pub(crate) fn command_line(&self) -> String {
        let flags = [
            (self.brief, "--brief"),
            (self.targets_only, "--targets-only"),
            (self.encoded_baseline, "--encoded-baseline"),
            (self.without_sha_instructions, "--without-sha-instructions"),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.to_owned());
        let only = self.only.iter().map(|only| format!("--only '{only}'"));
        let latency = self.latency.iter().map(|latency| format!("--latency {latency}"));
        let words = std::iter::once("cargo xtask bench".to_owned()).chain(flags).chain(only).chain(latency);
        let before = self.before.iter().map(|_| "--before FOLDER".to_owned());
        words.chain(before).collect::<Vec<_>>().join(" ")
    }
}
