//! `custody`: what an operator of a Custody deployment asks and does.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod deployment;
mod dlq;
mod failed;
mod find;
mod fsck;
mod open;
mod output;
mod queue;
mod rejected;
mod selection;
mod survey;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use custody_core::record_id::RecordId;

use crate::{deployment::Deployment, output::Output};

/// What a command came to. Its number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// Everything that was asked for.
    All = 0,
    /// Not everything: disagreements were found, or some dead letters could not be dealt with.
    Partly = 1,
    /// What was asked for does not exist.
    NotFound = 3,
}

/// The exit status where the deployment could not be talked to, or something else failed.
const FAILED: u8 = 4;

#[derive(Parser)]
#[command(
    name = "custody",
    version,
    about = "Shows and mends what a Custody deployment could not bring to its end.",
    after_help = "AWS is found as by every AWS tool (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, …).\n\n\
                  Exit status: 0 done; 1 done in part: fsck found disagreements, or did not look at everything, or some \
                  dead letters were left; 2 wrong usage; 3 there is no such record or dead letter; 4 the deployment could not be asked."
)]
struct Arguments {
    /// The CloudFormation stack of the deployment.
    #[arg(long, global = true, env = "CUSTODY_STACK_NAME", default_value = "custody", value_name = "NAME")]
    stack_name: String,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Records in progress, oldest first, and acceptance markers that are not adopted yet.
    Open(open::Options),
    /// Failed records that nobody has decided about, oldest first. They stay listed however old their dead letters are.
    Failed(failed::Options),
    /// The dead-letter queue: records that failed, and requests that could not be stored.
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
    /// Rejected requests: their producers got an error that tells what to change. They are listed for 14 days.
    Rejected {
        #[command(subcommand)]
        command: rejected::Command,
    },
    /// The way of one record: every execution and state with its time, and where the bytes are.
    Trace {
        /// The record's messageID.
        id: RecordId,
    },
    /// Find records by their source system, or its transaction, newest first.
    Find(find::Options),
    /// Report what is stuck, from the open records; with --full, compare the whole archive and record table.
    Fsck(fsck::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(done) => ExitCode::from(done as u8),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<Done> {
    let output = Output { json: arguments.json };
    let deployment = Deployment::find(&arguments.stack_name).await?;
    match arguments.command {
        Command::Open(options) => open::run(&deployment, output, options).await,
        Command::Failed(options) => failed::run(&deployment, output, options).await,
        Command::Dlq { command } => dlq::run(&deployment, output, command).await,
        Command::Rejected { command } => rejected::run(&deployment, output, command).await,
        Command::Trace { id } => trace::run(&deployment, output, id).await,
        Command::Find(options) => find::run(&deployment, output, options).await,
        Command::Fsck(options) => fsck::run(&deployment, output, options).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
