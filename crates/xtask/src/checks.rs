//! Every check that CI runs, in the order in which they fail fastest.

use std::{
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, bail};

use crate::{
    bench,
    build::{self, Build},
    progress,
    stack::{Running, Stack, Workflows},
    tools::Python,
    workspace,
};

/// A named check and how long it took.
struct Passed {
    name: &'static str,
    seconds: f64,
}

/// Runs checks in order and stops at the first failure.
#[derive(Default)]
struct Checks(Vec<Passed>);

impl Checks {
    fn run(&mut self, name: &'static str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        println!("\n== {name}");
        let started = Instant::now();
        check().map_err(|error| error.context(format!("check failed: {name}")))?;
        self.0.push(Passed { name, seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    fn print(&self) {
        println!("\nAll checks passed:");
        for Passed { name, seconds } in &self.0 {
            println!("  ✓ {name} ({seconds:.0} s)");
        }
        println!("{} passed, 0 failed", self.0.len());
    }
}

/// `cargo xtask test`.
pub(crate) fn everything() -> anyhow::Result<()> {
    let mut checks = Checks::default();
    checks.run("format", || cargo(&["fmt", "--all", "--check"]))?;
    checks.run("clippy", || {
        cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "custody-e2e/stack",
            "--locked",
            "--",
            "-D",
            "warnings",
        ])
    })?;
    checks.run("documentation", || {
        let mut doc = build::cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings");
        progress::run_visibly(&mut doc)
    })?;
    checks.run("template and state machine", lint_template)?;
    checks.run("unit, contract and drift tests", || {
        let redis_server = crate::tools::redis_server()?;
        let mut test = build::cargo();
        test.args(["test", "--workspace", "--locked", "--quiet"]).env("CUSTODY_REDIS_SERVER", redis_server);
        // Where there is none, the test that wants it says so.
        if let Some(valkey_server) = crate::tools::valkey_server(&crate::tools::Python::ready()?) {
            test.env("CUSTODY_VALKEY_SERVER", valkey_server);
        }
        progress::run_visibly(&mut test)
    })?;
    checks.run("crash matrix", || {
        progress::run_visibly(crash_matrix_command().args(["--schedules", CRASH_SCHEDULES]))
    })?;
    end_to_end(&mut checks, Build::Workspace, Workflows::Standard, &SUITES)?;
    let differing: Vec<_> = SUITES.into_iter().filter(|suite| suite.differs).collect();
    end_to_end(&mut checks, Build::Workspace, Workflows::Express, &differing)?;
    // It measures nothing, and nothing is built for speed; it keeps the harness alive.
    checks.run("benchmark, in brief", || {
        let file = |name: &str| workspace::state().join(name).display().to_string();
        let (json, svg) = (file("bench.json"), file("bench.svg"));
        let arguments = ["--brief", "--json", &json, "--svg", &svg].map(str::to_owned);
        match bench::run(Build::Workspace, &arguments)? {
            Some(0) => Ok(()),
            code => bail!("the benchmark ended with {code:?}"),
        }
    })?;
    checks.print();
    Ok(())
}

/// How many random schedules of the crash matrix a test run takes: about half a minute.
const CRASH_SCHEDULES: &str = "6000";

/// `cargo xtask crash-matrix`. Its exit status is the matrix's own.
pub(crate) fn crash_matrix(arguments: &[String]) -> ExitCode {
    match crash_matrix_command().args(arguments).status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: run the crash matrix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn crash_matrix_command() -> Command {
    let mut command = build::cargo();
    command.args(["run", "--quiet", "--locked", "--package", "custody-crash-matrix", "--"]);
    command
}

/// Tests that want a stack: a test program of the package `custody-e2e`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    test: &'static str,
    title: &'static str,
    /// Whether what it shows may depend on the type of workflow. A test run takes these with both types; `cargo xtask e2e
    /// --workflows express` takes all.
    differs: bool,
}

/// All suites, in their order: the last one searches what the others have left in logs and notifications.
const SUITES: [Suite; 10] = [
    Suite { test: "aws_contracts", title: "contracts of the AWS adapters", differs: false },
    Suite { test: "workflow", title: "the workflow's model is the state machine", differs: false },
    Suite { test: "records", title: "end to end: records", differs: true },
    Suite { test: "requests", title: "end to end: requests", differs: false },
    Suite { test: "faults", title: "end to end: faults", differs: true },
    Suite { test: "recovery", title: "end to end: recovery", differs: true },
    Suite { test: "crashes", title: "end to end: crashes", differs: false },
    Suite { test: "outages", title: "end to end: outages", differs: true },
    Suite { test: "operation", title: "end to end: operation", differs: false },
    Suite { test: "secrets", title: "end to end: no secret anywhere", differs: false },
];

/// A suite by its name.
pub(crate) fn parse_suite(name: &str) -> Result<Suite, String> {
    SUITES.into_iter().find(|suite| suite.test == name).ok_or_else(|| {
        let names = SUITES.map(|suite| suite.test);
        format!("there is no suite of this name; there are {}", names.join(", "))
    })
}

/// `cargo xtask e2e`.
pub(crate) fn end_to_end_only(workflows: Workflows, suites: &[Suite]) -> anyhow::Result<()> {
    let mut checks = Checks::default();
    let suites = if suites.is_empty() { &SUITES } else { suites };
    end_to_end(&mut checks, Build::Local, workflows, suites)?;
    checks.print();
    Ok(())
}

/// Runs on a stack of its own, which is gone afterwards, whatever happened.
fn end_to_end(
    checks: &mut Checks,
    build: Build,
    workflows: Workflows,
    suites: &[Suite],
) -> anyhow::Result<()> {
    let stack = Stack::named("test");
    let mut running = None;
    let mut cli = None;
    let result = checks
        .run(workflows.title(), || {
            stack.forget()?;
            let programs = build::programs(build)?;
            running = Some(stack.up(&programs, workflows)?);
            cli = Some(programs.cli);
            Ok(())
        })
        .and_then(|()| {
            let (Some(running), Some(cli)) = (&running, &cli) else { return Ok(()) };
            run_suites(checks, suites, |suite| stack_test(running, cli, suite.test))
        });
    if result.is_err() {
        println!("\nThe failed run's logs are kept in .custody/failed-test-logs.");
        stack.keep_logs(&workspace::state().join("failed-test-logs"));
    }
    stack.down()?;
    result?;
    checks.run("nothing is left behind", || running.as_ref().map_or(Ok(()), Running::expect_gone))
}

/// Runs every suite, also after one that fails: each tells something else.
fn run_suites(
    checks: &mut Checks,
    suites: &[Suite],
    run: impl Fn(&Suite) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for suite in suites {
        if let Err(error) = checks.run(suite.title, || run(suite)) {
            println!("{error:#}");
            failed.push(suite.test);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("these suites failed: {}", failed.join(", ")) }
}

fn stack_test(running: &Running, cli: &Path, name: &str) -> anyhow::Result<()> {
    let python = Python::ready()?;
    let mut test = build::cargo();
    test.args([
        "test",
        "--package",
        "custody-e2e",
        "--features",
        "stack",
        "--locked",
        "--quiet",
        "--test",
        name,
    ]);
    running.point_test_at_it(&mut test, &python);
    let itself = std::env::current_exe().context("find this program")?;
    progress::run_visibly(test.env("CUSTODY_XTASK", itself).env("CUSTODY_CLI", cli))
}

fn lint_template() -> anyhow::Result<()> {
    let python = Python::ready()?;
    let mut lint = python.command("cfn-lint");
    progress::run_visibly(lint.current_dir(workspace::root()).arg("template.yaml"))?;
    let mut validate = python.command("sam");
    validate
        .current_dir(workspace::root())
        .args(["validate", "--lint", "--region", "us-east-1"])
        .env("SAM_CLI_TELEMETRY", "0")
        .env("HOME", workspace::state());
    progress::run_visibly(&mut validate)
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command: Command = build::cargo();
    progress::run_visibly(command.args(arguments))
}
