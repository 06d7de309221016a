//! The task runner of Custody: `cargo xtask demo`, `cargo xtask test`, and what one needs between the two.
//!
//! It installs the tools of the local stack, starts and ends it, and runs every check that CI runs. It prints for
//! a person; only here is printing to standard output allowed.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod bench;
mod build;
mod checks;
mod deny;
mod mutants;
mod shell;
mod soak;
mod suites;

use std::{panic::resume_unwind, process::ExitCode, thread};

use clap::{Parser, Subcommand};
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
    /// Which local stack: several can run side by side.
    #[arg(long, global = true, default_value = "default", value_parser = parse_name)]
    stack: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set everything up, post one real record to a local deployment, and show what becomes of it.
    Demo,
    /// Run every check and test, as CI does.
    Test,
    /// Run the checks of the inner loop: format, clippy, unit tests, a short simulation.
    Check,
    /// Run only the end-to-end suites, or some of them, on a stack of their own.
    E2e {
        /// The type of workflow that the stack runs.
        #[arg(long, value_enum, default_value_t)]
        workflows: Workflows,
        /// Which suites; all of them where none is named.
        #[arg(value_parser = suites::parse)]
        suites: Vec<suites::Suite>,
    },
    /// Drive the stages through every fault at every effect; `--help` tells more.
    #[command(disable_help_flag = true)]
    Simulate {
        /// Arguments of the simulation: `--schedules N --seed S`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the functions against a baseline, what moving the bytes alone would cost; `--help` tells more.
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmark: `--json FILE`, `--svg FILE`, `--goal`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Break every line of core on purpose, one at a time, and report the defects that no test catches. Takes hours.
    Mutants {
        /// Further arguments of `cargo mutants`: `--file GLOB`, `--shard K/N`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check the dependencies: advisories, licences, bans, sources.
    Deny,
    /// Send records through a local stack of its own for a while; fails where one is lost, altered or stuck.
    Soak {
        /// For how long to send.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// How many requests to have under way at once.
        #[arg(long, default_value_t = 4)]
        concurrency: usize,
    },
    /// Start the local stack and deploy the template to it. Does nothing where nothing changed.
    Up,
    /// End the local stack, every process of it, and forget its data.
    Down,
    /// Break a part of the stack, as tests and the curious do.
    Break {
        /// What.
        #[arg(value_enum)]
        fault: Fault,
    },
    /// Say what runs where.
    Status,
    /// Print the logs of the functions, oldest first, or those of the stack's own processes.
    Logs {
        /// A function (`ingest`, `archive`, …), or `ministack`, `cache-1` to `cache-6`.
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

fn main() -> ExitCode {
    let Arguments { stack, command } = Arguments::parse();
    let stack = Stack::named(&stack);
    let result = match command {
        Command::Demo => demo(&stack),
        Command::Test => checks::everything(),
        Command::Check => checks::inner_loop(),
        Command::Mutants { arguments } => mutants::all(&arguments),
        Command::Deny => deny::check(),
        Command::E2e { workflows, suites } => suites::only(workflows, &suites),
        Command::Simulate { arguments } => return checks::simulation(&arguments),
        Command::Bench { arguments } => return exit_code(bench::run(Build::Release, &arguments)),
        Command::Soak { seconds, concurrency } => soak::run(seconds, concurrency),
        Command::Up => set_up()
            .and_then(|programs| stack.up(&programs.functions, Workflows::default()))
            .map(|running| println!("{}", running.summary())),
        Command::Down => stack.down(),
        Command::Break { fault } => stack.break_part(fault),
        Command::Status => stack.status(),
        Command::Logs { of } => stack.logs(&of),
        Command::Send { arguments } => send(&stack, &arguments),
        Command::Custody { arguments } => return operate(&stack, &arguments),
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
    let running = stack.up(&programs.functions, Workflows::default())?;
    let mut client = std::process::Command::new(programs.test_client);
    progress::run_visibly(running.point_at_it(client.arg("show")))?;
    println!();
    println!("The stack is still running. Send more:  cargo xtask send load --count 50");
    println!("Look around:                            cargo xtask status, cargo xtask logs ingest");
    println!("End it:                                 cargo xtask down");
    Ok(())
}

/// Builds what runs on a local stack. The Python tools are installed meanwhile: that is mostly waiting for a network.
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
    progress::run_visibly(running.point_at_it(client.args(arguments)))
}

/// Runs the operator's tool on the stack. Its exit status is the tool's own.
fn operate(stack: &Stack, arguments: &[String]) -> ExitCode {
    let run = || -> anyhow::Result<Option<i32>> {
        let running = stack.running()?;
        let mut custody = std::process::Command::new(build::programs(Build::Local)?.cli);
        Ok(running.point_at_it(custody.args(arguments)).status()?.code())
    };
    exit_code(run())
}

/// The exit status of a program that ran in this one's place.
fn exit_code(status: anyhow::Result<Option<i32>>) -> ExitCode {
    match status {
        Ok(code) => ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
