//! The task runner of Custody: `cargo xtask demo`, `cargo xtask test`, and the other tasks of a developer.
//!
//! It installs the tools of the local stack, starts and ends the stack, and runs every check that CI runs. It is a
//! program for a person, so it may print to standard output.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod api_page;
mod aws_test;
mod bench;
mod build;
mod checks;
mod deny;
mod mutants;
mod package;
mod shell;
mod soak;
mod suites;
mod template_checks;

use std::{
    panic::{self, resume_unwind},
    process::{self, ExitCode},
    thread,
};

use clap::{Parser, Subcommand, ValueEnum as _};
use custody_local_stack::{Fault, Stack, Workflows, parse_name, progress, tools::Python};

use crate::build::{Build, Programs};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Builds, checks and runs Custody.",
    disable_help_subcommand = true
)]
struct Arguments {
    /// The name of the local stack. Several stacks can run side by side.
    #[arg(long, global = true, default_value = "default", value_parser = parse_name)]
    stack: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set everything up, post one real record to a local deployment, and show how it is processed.
    Demo,
    /// Run every check and test, as CI does.
    Test,
    /// Run the checks of the inner loop: format, clippy, unit tests, a short simulation.
    Check,
    /// Run only the end-to-end suites, or some of them, on a separate stack.
    E2e {
        /// The type of workflow that the stack runs.
        #[arg(long, value_enum, default_value_t)]
        workflows: Workflows,
        /// The suites to run; all of them if none is named.
        #[arg(value_parser = suites::parse)]
        suites: Vec<suites::Suite>,
    },
    /// Run the stages with every fault at every effect; `--help` shows the options.
    #[command(disable_help_flag = true)]
    Simulate {
        /// Arguments of the simulation: `--schedules N --seed S`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the functions against a baseline, which only moves the bytes; `--help` shows the options.
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmark: `--json FILE`, `--svg FILE`, `--goal`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break every line of core on purpose, one at a time, and report the defects that no test catches. Takes hours.
    Mutants {
        /// Try only a sample of twenty, chosen by the hash of the commit.
        #[arg(long)]
        sample: bool,
        /// Further arguments of `cargo mutants`: `--file GLOB`, `--shard K/N`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check the template and the state machine without a stack.
    Template {
        /// Instead, write what CloudFormation gets to tools/xtask/template-checks/transformed-template.yaml.
        #[arg(long)]
        update: bool,
    },
    /// Render docs/openapi.yaml for people: docs/api.html, one file that loads nothing from elsewhere.
    ApiPage,
    /// Build the functions for AWS (arm64): an archive and a bill of materials for each, and their digests.
    Package(package::Options),
    /// Deploy to AWS under a name of its own, send records, run the end-to-end suites, print latencies and costs, and remove everything.
    AwsTest(aws_test::Options),
    /// Check the dependencies: advisories, licences, bans, sources.
    Deny,
    /// Send records through a separate local stack for a while. Fails if a record is lost, altered or stuck.
    Soak {
        /// The number of seconds to send records for.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The number of concurrent requests.
        #[arg(long, default_value_t = 4)]
        concurrency: usize,
    },
    /// Start the local stack and deploy the template to it. Does nothing if nothing has changed.
    Up,
    /// End every process of the local stack and delete its data.
    Down,
    /// Break a part of the stack, or repair it.
    Break {
        /// The fault or the repair.
        #[arg(value_enum)]
        fault: Fault,
    },
    /// Print the addresses of the stack's parts.
    Status,
    /// Print the logs of one or all functions, oldest lines first, or the log of one of the stack's own processes.
    Logs {
        /// The name of a function (`ingest`, `archive`, …), or `ministack`, or `cache-1` to `cache-6`.
        #[arg(default_value = "functions")]
        of: String,
    },
    /// Send records with the test client: `cargo xtask send load --count 50`, `cargo xtask send show FILE`.
    Send {
        /// Arguments of the test client.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Operate the local stack: `cargo xtask custody dlq list`, `cargo xtask custody trace ID`.
    #[command(disable_help_flag = true)]
    Custody {
        /// Arguments of the operator's tool.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print `export` lines that point AWS tools and the test client at the local stack.
    Env,
}

/// A reader of the output that ends early (`head`) ends this program without a message, as it ends other programs.
fn end_quietly_where_nobody_reads_on() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("failed printing to stdout: Broken pipe")) {
            process::exit(0);
        }
        report(panic);
    }));
}

fn main() -> ExitCode {
    end_quietly_where_nobody_reads_on();
    let Arguments { stack, command } = Arguments::parse();
    let stack = Stack::named(&stack);
    let result = match command {
        Command::Demo => demo(&stack),
        Command::Test => checks::run_all_checks(),
        Command::Check => checks::inner_loop(),
        Command::Mutants { sample: true, .. } => mutants::sample(),
        Command::Mutants { sample: false, arguments } => mutants::all(&arguments),
        Command::Template { update: true } => template_checks::update_snapshot(),
        Command::Template { update: false } => template_checks::check(),
        Command::ApiPage => api_page::build().map(|page| println!("{}", page.display())),
        Command::Package(options) => package::run(&options),
        Command::AwsTest(options) => aws_test::run(&options),
        Command::Deny => deny::check(),
        Command::E2e { workflows, suites } => suites::only(workflows, &suites),
        Command::Simulate { arguments } => return checks::simulation(&arguments),
        Command::Bench { arguments } => return exit_code(bench::run(Build::Release, &arguments)),
        Command::Soak { seconds, concurrency } => soak::run(seconds, concurrency),
        Command::Up => set_up()
            .and_then(|programs| stack.up(&programs.functions, &programs.cli, Workflows::default()))
            .map(|running| println!("{}", running.summary())),
        Command::Down => stack.down(),
        Command::Break { fault } => apply_fault(&stack, fault),
        Command::Status => stack.status(),
        Command::Logs { of } => stack.logs(&of),
        Command::Send { arguments } => send(&stack, &arguments),
        Command::Custody { arguments } => return run_operators_tool(&stack, &arguments),
        Command::Env => stack.running().map(|running| running.print_exports()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(stack: &Stack) -> anyhow::Result<()> {
    let programs = set_up()?;
    let running = stack.up(&programs.functions, &programs.cli, Workflows::default())?;
    let mut client = std::process::Command::new(programs.test_client);
    progress::run_visibly(running.point_at_stack(client.arg("show")))?;
    println!();
    println!("The stack is still running. Send more:  cargo xtask send load --count 50");
    println!("Inspect it:                             cargo xtask status, cargo xtask logs ingest");
    println!("End it:                                 cargo xtask down");
    Ok(())
}

/// Builds the programs that run on a local stack. Installs the Python tools at the same time, because installing mostly
/// waits for the network.
fn set_up() -> anyhow::Result<Programs> {
    thread::scope(|scope| {
        let tools = scope.spawn(Python::ready);
        let programs = build::programs(Build::Local);
        tools.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        programs
    })
}

fn send(stack: &Stack, arguments: &[String]) -> anyhow::Result<()> {
    let running = stack.running()?;
    let mut client = std::process::Command::new(build::programs(Build::Local)?.test_client);
    progress::run_visibly(running.point_at_stack(client.args(arguments)))
}

/// Runs the operator's tool on the stack. Returns the exit status of the tool.
fn run_operators_tool(stack: &Stack, arguments: &[String]) -> ExitCode {
    let run = || -> anyhow::Result<Option<i32>> {
        let running = stack.running()?;
        let mut custody = std::process::Command::new(build::programs(Build::Local)?.cli);
        running.point_at_stack(custody.args(arguments));
        // Who sets a key or a URL means it.
        for chosen in ["CUSTODY_API_KEY", "CUSTODY_URL"] {
            if let Some(value) = std::env::var_os(chosen) {
                custody.env(chosen, value);
            }
        }
        Ok(custody.status()?.code())
    };
    exit_code(run())
}

/// Converts the exit status of a program that this one has run into its own exit status.
fn exit_code(status: anyhow::Result<Option<i32>>) -> ExitCode {
    match status {
        Ok(code) => ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Breaks a part of the stack, or repairs it, and says what repairs it.
fn apply_fault(stack: &Stack, fault: Fault) -> anyhow::Result<()> {
    stack.apply_fault(fault)?;
    let name = |fault: Fault| fault.to_possible_value().map(|value| value.get_name().to_owned());
    match fault.repair().and_then(name) {
        Some(repair) => println!("done; `cargo xtask break {repair}` repairs it"),
        None => println!("done"),
    }
    Ok(())
}
