//! The checks: all that CI runs, and the few of the inner loop.

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::bail;
use custody_local_stack::{Workflows, tools, tools::Python, workspace};
use xshell::{Shell, cmd};

use crate::{api_page, bench, build::Build, deny, mutants, package, shell, suites, template_checks};

/// The checks that have passed so far.
#[derive(Default)]
pub(crate) struct Checks(Vec<Passed>);

struct Passed {
    name: &'static str,
    seconds: f64,
}

impl Checks {
    /// Runs a check under its name.
    pub(crate) fn run(
        &mut self,
        name: &'static str,
        check: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        println!("\n== {name}");
        let started = Instant::now();
        check().map_err(|error| error.context(format!("check failed: {name}")))?;
        self.0.push(Passed { name, seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Prints the checks with their times.
    pub(crate) fn print(&self) {
        println!("\nAll checks passed:");
        for Passed { name, seconds } in &self.0 {
            println!("  ✓ {name} ({seconds:.0} s)");
        }
        println!("{} passed, 0 failed", self.0.len());
    }
}

/// Runs every check, in the order in which they fail fastest: `cargo xtask test`.
pub(crate) fn run_all_checks() -> anyhow::Result<()> {
    let mut checks = Checks::default();
    let sh = shell::in_workspace()?;
    checks.run("format", || format(&sh))?;
    checks.run("clippy", || clippy(&sh))?;
    checks.run("documentation", || {
        let doc = cmd!(sh, "cargo doc --workspace --no-deps --locked --quiet");
        shell::run_cargo(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    checks.run("template and state machine", template_checks::check)?;
    checks.run("the page of the API", api_page::check)?;
    checks.run("dependencies", deny::check)?;
    checks.run("unit, contract and drift tests", || test_workspace(&sh))?;
    checks.run("simulation", || simulate(&sh, SIMULATED_SCHEDULES))?;
    suites::on_a_stack(&mut checks, Build::Workspace, Workflows::Standard, &suites::ALL)?;
    suites::on_a_stack(&mut checks, Build::Workspace, Workflows::Express, &suites::differing())?;
    // The figures of this check mean nothing, because nothing is built for speed. It shows that the benchmark works.
    checks.run("benchmark, in brief", || {
        let file = |name: &str| workspace::state().join(name).display().to_string();
        let (json, svg) = (file("bench.json"), file("bench.svg"));
        let arguments = ["--brief", "--json", &json, "--svg", &svg].map(str::to_owned);
        match bench::run(Build::Workspace, &arguments)? {
            Some(0) => Ok(()),
            code => bail!("the benchmark ended with {code:?}"),
        }
    })?;
    checks.run("a package for arm64", package::check)?;
    checks.run("mutants, a sample", mutants::sample)?;
    checks.print();
    Ok(())
}

/// Runs the checks of the inner loop: `cargo xtask check`.
pub(crate) fn inner_loop() -> anyhow::Result<()> {
    let mut checks = Checks::default();
    let sh = shell::in_workspace()?;
    checks.run("format", || format(&sh))?;
    checks.run("clippy", || clippy(&sh))?;
    checks.run("tests of core, adapters and drift", || {
        let test = cmd!(sh, "cargo test --locked --quiet --package custody-core --package custody-aws");
        let test = test.args(["--package", "custody-lambda", "--package", "custody-cli"]);
        shell::run_cargo(test)?;
        shell::run_cargo(cmd!(sh, "cargo test --locked --quiet --package custody-e2e --test drift"))
    })?;
    checks.run("simulation, in brief", || simulate(&sh, "500"))?;
    checks.print();
    Ok(())
}

/// How many random schedules of the simulation a test run takes: about half a minute.
const SIMULATED_SCHEDULES: &str = "6000";

fn format(sh: &Shell) -> anyhow::Result<()> {
    shell::run_cargo(cmd!(sh, "cargo fmt --all --check"))
}

fn clippy(sh: &Shell) -> anyhow::Result<()> {
    let clippy = cmd!(sh, "cargo clippy --workspace --all-targets --features custody-e2e/stack --locked");
    shell::run_cargo(clippy.args(["--", "-D", "warnings"]))
}

fn test_workspace(sh: &Shell) -> anyhow::Result<()> {
    let mut test = cmd!(sh, "cargo test --workspace --locked --quiet")
        .env("CUSTODY_REDIS_SERVER", tools::redis_server()?);
    // Where the Python package has no Valkey for this machine, the test that wants it reports so.
    if let Some(valkey_server) = tools::valkey_server(&Python::ready()?) {
        test = test.env("CUSTODY_VALKEY_SERVER", valkey_server);
    }
    shell::run_cargo(test)
}

fn simulate(sh: &Shell, schedules: &str) -> anyhow::Result<()> {
    shell::run_cargo(cmd!(
        sh,
        "cargo run --quiet --locked --package custody-simulation -- --schedules {schedules}"
    ))
}

/// Runs the simulation with these arguments: `cargo xtask simulate`. The exit status is the simulation's own.
pub(crate) fn simulation(arguments: &[String]) -> ExitCode {
    let status = || -> anyhow::Result<_> {
        let sh = shell::in_workspace()?;
        let run = cmd!(sh, "cargo run --quiet --locked --package custody-simulation --");
        let mut command: Command = shell::cargo(run.args(arguments));
        Ok(command.status()?.code())
    };
    crate::exit_code(status())
}
