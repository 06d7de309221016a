//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use custody_bench::{cache_bytes::Load, latencies::Latencies};

/// Measures the functions against a baseline: what moving the bytes alone would cost.
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
    /// End with status 1 where a target is missed; the last line names it.
    #[arg(long)]
    pub(crate) goal: bool,
    /// A few records of each kind, to see that the harness works. The figures mean nothing.
    #[arg(long, conflicts_with = "goal")]
    pub(crate) brief: bool,
    /// Without the curve of throughput.
    #[arg(long)]
    pub(crate) targets_only: bool,
    /// Have the baseline of ingest write the payload as the event carries it, in base64, instead of as many bytes as it has
    /// when it is decoded.
    #[arg(long)]
    pub(crate) encoded_baseline: bool,
    /// Only what is called so, such as `ingest at 6 MB` or `archive`; targets that need more count as not measured.
    #[arg(long)]
    pub(crate) only: Option<String>,
    /// Have AWS answer late: `aws` for times like those of AWS, or by operation: `StartExecution=300ms,PutItem=4ms`.
    #[arg(long)]
    latency: Option<Latencies>,
    /// Hide the processor's instructions for SHA-256 from everything that is measured, as if it had none.
    #[arg(long)]
    pub(crate) without_sha_instructions: bool,
    /// The folder of the release binaries.
    #[arg(long, hide = true)]
    pub(crate) binaries: PathBuf,
    /// All functions.
    #[arg(long = "function", hide = true)]
    pub(crate) functions: Vec<String>,
    /// A Python interpreter with `boto3`.
    #[arg(long, hide = true)]
    pub(crate) python: Option<PathBuf>,
}

/// What is measured instead of times.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// The bytes that the cache holds at a steady rate: payloads unlinked when they are archived, beside payloads with a grace
    /// period.
    CacheBytes(Load),
}

impl Arguments {
    /// The latencies of the AWS stub.
    pub(crate) fn latencies(&self) -> Latencies {
        self.latency.clone().unwrap_or_default()
    }

    /// Whether what is called so is wanted.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.starts_with(only))
    }

    /// The command line that leads to the same measurements.
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
        words.collect::<Vec<_>>().join(" ")
    }
}
