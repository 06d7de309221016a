//! `custody`, the command-line tool. Producers and auditors send and read records with it. Operators see the state of records,
//! redrive or discard failed records, check the stores, and decide who may send and read records.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod causes;
mod client;
mod deployment;
mod dlq;
mod doctor;
mod drain;
mod failed;
mod find;
mod fsck;
mod interruption;
mod logs;
mod open;
mod output;
mod pace;
mod plan;
mod producer;
mod progress;
mod queue;
mod rebuild;
mod redrives;
mod rejected;
mod selection;
mod status;
mod survey;
mod trace;
mod watch;

use std::process::ExitCode;

use crate::{deployment::Deployment, output::Output};
use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

/// Result of a command. The discriminant is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandOutcome {
    /// The command did everything that it was asked to do.
    Complete = 0,
    /// The command found disagreements, could not read everything, or left some dead letters on the queue.
    Partial = 1,
    /// The record, dead letter or rejected request does not exist.
    NotFound = 3,
}

/// Exit status when the deployment could not be reached, or when another error ended the command.
const FAILED: u8 = 4;

/// The heading of the options that every command has: below a command's own options.
const GLOBAL: &str = "Options of every command";

#[derive(Parser)]
#[command(
    name = "custody",
    version,
    about = "Sends and reads records; for operators: shows records, redrives or discards failed ones, and checks the stores.",
    after_help = "AWS is configured as for every AWS tool (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, …).\n\n\
                  Exit status: 0 success; 1 partial success: fsck found disagreements or did not check everything, rebuild could not make every item, \
                  some dead letters stay on the queue, `redrive --wait`: some failed again, doctor: something is wrong, trace or open: a store could not be read, or the cache is still needed; 2 wrong usage; 3 no such record or dead letter; 4 other error."
)]
struct Arguments {
    /// The CloudFormation stack of the deployment.
    #[arg(
        long,
        global = true,
        env = "CUSTODY_STACK_NAME",
        default_value = "custody",
        value_name = "NAME",
        help_heading = GLOBAL
    )]
    stack_name: String,
    /// Print JSON instead of text: results on standard output, errors on standard error.
    #[arg(long, global = true, help_heading = GLOBAL)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Api(ApiCommand),
    #[command(flatten)]
    Stack(StackCommand),
    /// Check what every command needs: credentials, stack, clock and permissions; and whether reconcile keeps up.
    #[command(after_help = "Examples:\n  custody doctor\n  custody --stack-name custody-eu doctor")]
    Doctor,
    /// Compute what limits a deployment, which cache it needs, and what it costs. Asks no service.
    #[command(after_help = "Examples:\n  \
        custody plan --rate 100 --size 1MB --type EXPRESS\n  \
        custody plan --rate 20 --burst 200 --size 256KB --outage 10min --region-quotas small --json")]
    Plan(Box<plan::Options>),
    /// Print the completions of a shell.
    #[command(after_help = "Example:\n  custody completions bash > /etc/bash_completion.d/custody")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command.
    #[command(after_help = "Example:\n  custody man /usr/local/share/man/man1")]
    Man {
        /// Folder to write to.
        #[arg(default_value = ".")]
        folder: std::path::PathBuf,
    },
}

/// The commands that use the API, with an API key and without any right in AWS.
#[derive(Subcommand)]
enum ApiCommand {
    /// Send files as records, with an API key. Large files are uploaded. A command that broke off may be run again.
    #[command(after_help = "Examples:\n  \
        custody send scan.png --type scan --source scanner-7\n  \
        tar c folder | custody send - --type backup --source archive --content-type application/x-tar --transaction 2026-01\n\n\
        CUSTODY_URL and CUSTODY_API_KEY set --url and --api-key.")]
    Send(client::send::Options),
    /// Download the payload of a record, with an API key, and verify its digest.
    #[command(after_help = "Examples:\n  \
        custody get 019e1f4b-6c00-7abc-8def-0123456789ab -o scan.png\n  \
        custody get 019e1f4b-6c00-7abc-8def-0123456789ab -o - | sha256sum")]
    Get(client::get::Options),
    /// List the records that the holder of an API key may read, newest first.
    #[command(after_help = "Example:\n  custody list --source scanner-7 --since 2h --status FAILED")]
    List(client::list::Options),
}

/// The commands that work on a deployment, with rights in AWS.
#[derive(Subcommand)]
enum StackCommand {
    /// Show one screen, again and again: receipts, records in progress by age, failures by cause, queues, cache and alarms.
    #[command(after_help = "Examples:\n  \
        custody status\n  \
        custody status --once\n  \
        custody --json status | jq .failures")]
    Status(status::Options),
    /// List records in progress, oldest first, and acceptance markers that are not adopted yet.
    #[command(after_help = "Examples:\n  custody open\n  custody --json open | jq '.records[].messageID'")]
    Open(open::Options),
    /// List failed records that wait for a decision, in groups by stage and cause. They stay listed after their dead letters have
    /// expired.
    #[command(
        after_help = "Examples:\n  custody failed\n  custody failed --limit 1000\n  custody --json failed | jq -r '.records[].messageID'"
    )]
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
    /// Show one record: its open record and item, every execution and state with its time, and where the payload is. Or the
    /// request that was rejected under this id.
    #[command(after_help = "Examples:\n  \
        custody trace 019e1f4b-6c00-7abc-8def-0123456789ab\n  \
        custody trace urn:custody:request:7a012fc8-7a3a-4681-b2ca-a0fb82b8c270")]
    Trace {
        /// The messageID of a record, or the `instance` of a problem.
        #[arg(value_parser = trace::parse_subject, value_name = "ID")]
        subject: trace::Subject,
    },
    /// Find records by their source system, or by their transaction in it, newest first.
    #[command(
        after_help = "Examples:\n  custody find --source loans --since 1d --status FAILED\n  custody find --transaction 2026-11-0815"
    )]
    Find(find::Options),
    /// Show notifications while they are published, from a queue that exists only meanwhile.
    #[command(after_help = "Examples:\n  \
        custody watch --type failed\n  \
        custody watch --source 'cards-*' --json | jq .subject")]
    Watch(watch::Options),
    /// Show what a function has logged, newest lines last.
    #[command(after_help = "Examples:\n  \
        custody logs reconcile --warnings\n  \
        custody logs archive --since 2h --contains 019e1f4b-6c00-7abc-8def-0123456789ab")]
    Logs(logs::Options),
    /// Wait until the cache holds nothing that a record needs, so that it can be replaced. Deploy `CacheAdmission=closed` first.
    #[command(
        after_help = "Example:\n  custody drain --wait 30min && sam deploy --parameter-overrides CacheDurability=replicas"
    )]
    Drain(drain::Options),
    /// Report stuck records, from the open records; with --full, also compare the whole archive with the record table.
    #[command(
        after_help = "Examples:\n  custody fsck\n  custody fsck --full --since 2d\n  custody fsck --full --read --max-per-second 500"
    )]
    Fsck(fsck::Options),
    /// Make missing items of the record table again, from the manifests in the archive and the evidence of discards.
    #[command(after_help = "Examples:\n  \
        custody rebuild --dry-run\n  \
        custody rebuild --since 2026-11-01T00:00:00Z --max-per-second 1000\n\n\
        It needs the rights of the stack's RebuildRole. It may be run again, and while records arrive.")]
    Rebuild(rebuild::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    end_quietly_where_nobody_reads_on();
    let arguments = Arguments::parse();
    let output = Output { json: arguments.json };
    match run(arguments).await {
        Ok(done) => ExitCode::from(done as u8),
        Err(error) => {
            output.complain(&output::plain_error(&error));
            ExitCode::from(FAILED)
        }
    }
}

/// What an error of a store or service that is away begins with.
const OUTAGE: &str = "a service is away or overloaded (`custody doctor` says which)";

/// A reader of the output that ends early (`head`) ends this program without a message, as it ends other programs. `watch` notices it
/// itself, because it has a queue to delete.
fn end_quietly_where_nobody_reads_on() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_closed_pipe = panic
            .payload()
            .downcast_ref::<String>()
            .is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe"));
        if is_closed_pipe {
            std::process::exit(0);
        }
        report(panic);
    }));
}

async fn run(arguments: Arguments) -> anyhow::Result<CommandOutcome> {
    let output = Output { json: arguments.json };
    match arguments.command {
        Command::Api(ApiCommand::Send(options)) => client::send::run(output, options).await,
        Command::Api(ApiCommand::Get(options)) => client::get::run(output, options).await,
        Command::Api(ApiCommand::List(options)) => client::list::run(output, options).await,
        Command::Stack(command) => {
            let deployment = Deployment::find(&arguments.stack_name).await?;
            run_on_stack(&deployment, output, command)
                .await
                .map_err(|error| if output::is_outage(&error) { error.context(OUTAGE) } else { error })
        }
        Command::Doctor => Box::pin(doctor::run(&arguments.stack_name, output)).await,
        Command::Plan(options) => plan::run(output, &options),
        Command::Completions { shell } => {
            // The generator panics where its output is closed, so it writes to memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "custody", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(CommandOutcome::Complete)
        }
        Command::Man { folder } => {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("create the folder {}", folder.display()))?;
            clap_mangen::generate_to(Arguments::command(), &folder)
                .with_context(|| format!("write the pages into {}", folder.display()))?;
            Ok(CommandOutcome::Complete)
        }
    }
}

async fn run_on_stack(
    deployment: &Deployment,
    output: Output,
    command: StackCommand,
) -> anyhow::Result<CommandOutcome> {
    match command {
        StackCommand::Status(options) => Box::pin(status::run(deployment, output, options)).await,
        StackCommand::Open(options) => open::run(deployment, output, options).await,
        StackCommand::Failed(options) => failed::run(deployment, output, options).await,
        StackCommand::Dlq { command } => dlq::run(deployment, output, command).await,
        StackCommand::Rejected { command } => rejected::run(deployment, output, command).await,
        StackCommand::Producer { command } => producer::run(deployment, output, command).await,
        StackCommand::Trace { subject } => trace::run(deployment, output, subject).await,
        StackCommand::Find(options) => find::run(deployment, output, options).await,
        StackCommand::Watch(options) => watch::run(deployment, output, options).await,
        StackCommand::Logs(options) => logs::run(deployment, output, options).await,
        StackCommand::Drain(options) => drain::run(deployment, output, options).await,
        StackCommand::Fsck(options) => fsck::run(deployment, output, options).await,
        StackCommand::Rebuild(options) => rebuild::run(deployment, output, options).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_can_be_run() {
        fn leaves(command: &clap::Command, found: &mut Vec<clap::Command>) {
            let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
            if below.peek().is_none() {
                found.push(command.clone());
            }
            below.for_each(|below| leaves(below, found));
        }
        let mut found = Vec::new();
        leaves(&Arguments::command(), &mut found);
        assert!(found.len() > 25, "{}", found.len());
        for command in found {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.lines().filter_map(|line| line.strip_prefix("  ")).collect::<Vec<_>>();
            assert!(!examples.is_empty(), "the help of {name} has no example");
            for example in examples {
                // What a shell makes of an example: the part before a pipe, without quotation marks around its words.
                let own = example
                    .split(" | ")
                    .find(|part| part.trim_start().starts_with("custody"))
                    .expect(example);
                let own = own.split(" && ").next().unwrap().split(" > ").next().unwrap();
                let words = split_as_a_shell_does(own);
                if let Err(error) = Arguments::try_parse_from(words) {
                    // The URL and the key of the API are in the environment of those who use it.
                    assert!(error.to_string().contains("--url"), "{example}: {error}");
                }
            }
        }
    }

    /// Splits a command at its spaces, but not within single quotation marks.
    fn split_as_a_shell_does(command: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut is_quoted = false;
        for char in command.trim().chars() {
            match char {
                '\'' => is_quoted = !is_quoted,
                ' ' if !is_quoted => words.push(String::new()),
                char => words.last_mut().unwrap().push(char),
            }
        }
        words
    }

    /// A person follows these pages at night. Their words in capitals are the reader's own.
    #[test]
    fn every_command_of_a_runbook_exists() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks");
        let mut commands = 0;
        for page in std::fs::read_dir(folder).unwrap() {
            let page = std::fs::read_to_string(page.unwrap().path()).unwrap();
            let blocks =
                page.split("```sh\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines());
            // In the text, a command is in backquotes.
            let in_text = page.split('`').skip(1).step_by(2).filter(|code| code.starts_with("custody "));
            // The AWS CLI's commands are not ours.
            for command in blocks.filter(|line| !line.starts_with("aws ")).chain(in_text) {
                let command = command
                    .split(" # ")
                    .next()
                    .unwrap()
                    .replace("ID", "019e1f4b-6c00-7abc-8def-0123456789ab");
                let parsed = Arguments::try_parse_from(command.split_whitespace());
                if let Err(error) = parsed {
                    // In the text, a command may be named without its arguments.
                    let is_name = command.split_whitespace().count() == 2;
                    let lacks_arguments = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                    assert!(is_name && lacks_arguments, "{command}: {error}");
                }
                commands += 1;
            }
        }
        assert!(commands > 60, "{commands}");
    }
}
