//! The deployment test: `cargo xtask aws-test`. It deploys the template under a name of its own, sends records, runs the end-to-end suites that
//! need nothing of the local stack, prints latencies and costs, and removes everything.
//!
//! On AWS it deploys as README's "Deploy to AWS" says. `--local` does the same on MiniStack; only the deployment differs, because MiniStack
//! gets programs for this machine and the local cache.

mod trial;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use custody_local_stack::{Running, Stack, Workflows, progress, workspace};
use custody_plan::record::TRANSITIONS;

use self::trial::Trial;
use crate::{
    build::{self, Build, Programs},
    checks::Checks,
    suites,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The profile of ~/.aws/config whose credentials deploy and remove; without it, AWS's usual variables apply.
    #[arg(long)]
    profile: Option<String>,
    /// The Region to deploy to.
    #[arg(long, required_unless_present = "local")]
    region: Option<String>,
    /// How many records to send before the suites run.
    #[arg(long, default_value_t = 200)]
    records: usize,
    /// A further parameter of the template. May be repeated.
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// Leave the deployment as it is. `--remove` removes it later.
    #[arg(long)]
    keep: bool,
    /// Only remove this deployment, which an earlier run has left behind.
    #[arg(long, value_name = "STACK_NAME")]
    remove: Option<String>,
    /// Test a deployment on the local stack instead.
    #[arg(long, conflicts_with_all = ["profile", "region", "remove", "keep", "parameters"])]
    local: bool,
}

/// The sizes of the records that are sent.
const SIZES: &str = "4KB,256KB,1MB,4MB";

/// How long a new API key may take until API Gateway knows it. AWS documents no time; unverified.
const UNTIL_A_KEY_WORKS: Duration = Duration::from_mins(3);

/// Deploys, tests and removes: `cargo xtask aws-test`.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.local {
        return run_locally(options);
    }
    let region = options.region.as_deref().context("--region names the Region")?;
    let at = |name: &str| Trial::on_aws(name, options.profile.as_deref(), region);
    if let Some(name) = &options.remove {
        return at(name)?.remove();
    }
    let mut trial = at(&unique_name()?)?;
    println!(
        "The deployment is the stack {} in {region}. If this run is killed, remove it with:",
        trial.name
    );
    println!("  cargo xtask aws-test --region {region}{} --remove {}", profile(options), trial.name);
    let mut checks = Checks::default();
    let programs = build::programs(Build::Local)?;
    let result = checks
        .run("sam build, sam deploy", || trial.deploy(&options.parameters))
        .and_then(|()| test(&mut checks, &mut trial, &programs, &suites::everywhere(), options.records));
    if options.keep {
        println!("\nThe stack {} is left as it is, and costs money.", trial.name);
    } else {
        let removed = checks.run("everything is removed", || trial.remove());
        both(result, removed)?;
    }
    checks.print();
    Ok(())
}

fn profile(options: &Options) -> String {
    options.profile.as_ref().map(|profile| format!(" --profile {profile}")).unwrap_or_default()
}

/// Returns a name that no stack has.
fn unique_name() -> anyhow::Result<String> {
    Ok(format!("custody-test-{:08x}", trial::unix_seconds()?))
}

fn run_locally(options: &Options) -> anyhow::Result<()> {
    let mut checks = Checks::default();
    let stack = Stack::named("aws-test");
    stack.remove_leftovers()?;
    let programs = build::programs(Build::Local)?;
    let running = stack.start_without_deployment()?;
    let result = on_local_stack(&running, &programs, |trial, programs| {
        test(&mut checks, trial, programs, &suites::everywhere(), options.records)
    });
    stack.down()?;
    result?;
    checks.print();
    Ok(())
}

/// The suite `aws_test` of the end-to-end tests: the deployment test on the local stack, with few records and one suite.
pub(crate) fn brief(running: &Running, programs: &Programs) -> anyhow::Result<()> {
    on_local_stack(running, programs, |trial, programs| {
        test(
            &mut Checks::default(),
            trial,
            programs,
            &[suites::parse("query").map_err(anyhow::Error::msg)?],
            8,
        )
    })
}

fn on_local_stack(
    running: &Running,
    programs: &Programs,
    test: impl FnOnce(&mut Trial, &Programs) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = unique_name()?;
    let deployed = Stack::deploy_beside(
        running,
        &name,
        &programs.functions,
        &programs.cli,
        Workflows::Standard,
        &[].into(),
    )?;
    let mut trial = Trial::on_local_stack(&name, deployed)?;
    let result = test(&mut trial, programs);
    both(result, trial.remove())
}

/// Returns the error of the test, of the removal, or of both.
fn both(tested: anyhow::Result<()>, removed: anyhow::Result<()>) -> anyhow::Result<()> {
    match (tested, removed) {
        (Err(tested), Err(removed)) => {
            Err(tested.context(format!("{removed:#}, and before that the test failed")))
        }
        (tested, removed) => tested.and(removed),
    }
}

/// Sends records, runs suites, and prints figures.
fn test(
    checks: &mut Checks,
    trial: &mut Trial,
    programs: &Programs,
    suites: &[suites::Suite],
    records: usize,
) -> anyhow::Result<()> {
    trial.add_producer(&programs.cli)?;
    checks.run("a record passes through", || wait_for_a_record(trial, programs))?;
    checks.run("latencies", || {
        let mut load = Command::new(&programs.test_client);
        load.args(["load", "--size", SIZES, "--count"]).arg(records.to_string());
        progress::run_visibly(trial.point(&mut load))
    })?;
    suites::run_all(checks, suites, |suite| {
        let mut test = suite.program()?;
        trial.point(&mut test);
        progress::run_visibly(test.env("CUSTODY_CLI", &programs.cli))
    })?;
    checks.run("durations and costs", || {
        let facts = workspace::root().join("crates/plan/src/facts.json").display().to_string();
        trial.script("figures.py", &[&trial.name, &facts, &TRANSITIONS.to_string(), &trial.began.to_string()])
    })
}

/// Sends one record until it is accepted and completed: API Gateway does not know a new key at once.
fn wait_for_a_record(trial: &Trial, programs: &Programs) -> anyhow::Result<()> {
    let deadline = Instant::now() + UNTIL_A_KEY_WORKS;
    loop {
        let mut load = Command::new(&programs.test_client);
        let sent = progress::run_visibly(trial.point(load.args(["load", "--count", "1", "--size", "4KB"])));
        match sent {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_secs(10)),
            Ok(()) => return Ok(()),
        }
    }
}
