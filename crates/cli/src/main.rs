//! `custody`, the operator's tool: shows the state of records, redrives or discards failed records, checks the stores, and
//! decides who may send and read records.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod deployment;
mod dlq;
mod failed;
mod find;
mod fsck;
mod open;
mod output;
mod producer;
mod queue;
mod rejected;
mod selection;
mod survey;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use custody_core::record_id::RecordId;

use crate::{deployment::Deployment, output::Output};

/// Result of a command. The discriminant is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// The command did everything that it was asked to do.
    Complete = 0,
    /// The command found disagreements, did not check everything, or left some dead letters on the queue.
    Partial = 1,
    /// The record, dead letter or rejected request does not exist.
    NotFound = 3,
}

/// Exit status when the deployment could not be reached, or when another error ended the command.
const FAILED: u8 = 4;

#[derive(Parser)]
#[command(
    name = "custody",
    version,
    about = "Shows the records of a Custody deployment, redrives or discards failed ones, and checks the stores.",
    after_help = "AWS is configured as for every AWS tool (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, …).\n\n\
                  Exit status: 0 success; 1 partial success: fsck found disagreements or did not check everything, or \
                  some dead letters stay on the queue; 2 wrong usage; 3 no such record or dead letter; 4 other error."
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
    /// List records in progress, oldest first, and acceptance markers that are not adopted yet.
    Open(open::Options),
    /// List failed records that wait for a decision, oldest first. They stay listed after their dead letters have
    /// expired.
    Failed(failed::Options),
    /// List, show, redrive or discard dead letters: failed records, and requests that no store could take.
    Dlq {
        #[command(subcommand)]
        command: dlq::Command,
    },
    /// List, show or discard rejected requests, whose producers got a 4xx error. They stay listed for 14 days.
    Rejected {
        #[command(subcommand)]
        command: rejected::Command,
    },
    /// Add, list, change and revoke producers, who send records, and auditors, who read them.
    Producer {
        #[command(subcommand)]
        command: producer::Command,
    },
    /// Show one record: its open record and item, every execution and state with its time, and where the payload is.
    Trace {
        /// The record's messageID.
        id: RecordId,
    },
    /// Find records by their source system, or by their transaction in it, newest first.
    Find(find::Options),
    /// Report stuck records, from the open records; with --full, also compare the whole archive with the record table.
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

async fn run(arguments: Arguments) -> anyhow::Result<CommandOutcome> {
    let output = Output { json: arguments.json };
    let deployment = Deployment::find(&arguments.stack_name).await?;
    match arguments.command {
        Command::Open(options) => open::run(&deployment, output, options).await,
        Command::Failed(options) => failed::run(&deployment, output, options).await,
        Command::Dlq { command } => dlq::run(&deployment, output, command).await,
        Command::Rejected { command } => rejected::run(&deployment, output, command).await,
        Command::Producer { command } => producer::run(&deployment, output, command).await,
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
