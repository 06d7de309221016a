//! The command line of the test client.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod load;
mod show;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use custody_test_client::{
    deployment::Deployment,
    records::{Kind, Size},
};

use crate::load::Amount;

#[derive(Parser)]
#[command(
    name = "custody-test-client",
    about = "Sends records to a Custody deployment, follows each to its end, and checks what was stored.",
    after_help = "AWS is configured as for every AWS tool (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL, …).\n\
                  Exit status: 0 all records are complete and equal to what was sent, 1 anything else, 2 wrong usage."
)]
struct Arguments {
    /// JSON file with the stack's outputs, as `aws cloudformation describe-stacks --query 'Stacks[0].Outputs'`
    /// prints them.
    #[arg(long, env = "CUSTODY_OUTPUTS", global = true)]
    outputs: Option<PathBuf>,
    /// The API key's value, as `custody producer add` has printed it.
    #[arg(long, env = "CUSTODY_API_KEY", hide_env_values = true, global = true)]
    api_key: Option<String>,
    /// How long a record may take from its request to its last notification, in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", global = true)]
    timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send one record and show each step of its processing.
    Show {
        /// File with a request body to send unchanged; without it, a generated 3 MB image is sent.
        file: Option<PathBuf>,
    },
    /// Send many records at once and print a table.
    Load {
        /// Files with request bodies to send unchanged, instead of generated records.
        files: Vec<PathBuf>,
        /// Kinds of payloads to generate.
        #[arg(long, value_enum, value_delimiter = ',', default_values = ["text", "json", "png", "random"])]
        kind: Vec<Kind>,
        /// Payload sizes to generate: bytes, KB, MB, or `max` for the largest payload that fits into one Lambda event.
        #[arg(long, value_delimiter = ',', default_values = ["4KB", "256KB", "1MB", "3MB"])]
        size: Vec<Size>,
        /// How many records to send, spread over kinds and sizes.
        #[arg(long, default_value_t = 16)]
        count: usize,
        /// Send for this number of seconds, instead of a number of records.
        #[arg(long, conflicts_with = "count")]
        seconds: Option<u64>,
        /// Maximum number of concurrent requests.
        #[arg(long, default_value_t = 4)]
        concurrency: usize,
        /// Seed of the generated contents; equal seeds generate equal records.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let outputs = arguments.outputs.context("no deployment: give --outputs, or set CUSTODY_OUTPUTS")?;
    let api_key = arguments.api_key.context("no API key: give --api-key, or set CUSTODY_API_KEY")?;
    let deployment = Deployment::load(&outputs, api_key).await?;
    let timeout = Duration::from_secs(arguments.timeout);
    match arguments.command {
        Command::Show { file } => show::run(&deployment, file.as_deref(), timeout).await,
        Command::Load { files, kind, size, count, seconds, concurrency, seed } => {
            let amount = seconds.map_or(Amount::Records(count), |n| Amount::Time(Duration::from_secs(n)));
            let plan = load::Plan { files, kinds: kind, sizes: size, amount, concurrency, seed, timeout };
            load::run(&deployment, plan).await
        }
    }
}
