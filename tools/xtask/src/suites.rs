//! The end-to-end suites, which need a local stack: test programs of the package `custody-e2e`, and schemathesis.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use custody_local_stack::{
    Running, SECOND_STACK_NAME, STACK_NAME, Stack, Workflows, progress, tools::Python, workspace,
};
use xshell::cmd;

use crate::{
    aws_test,
    build::{self, Build, Programs},
    checks::Checks,
    shell,
};

/// A suite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// The name of the test program.
    test: &'static str,
    title: &'static str,
    /// Whether the result may depend on the type of workflow. A test run takes these suites with both types; `cargo xtask e2e
    /// --workflows express` takes all.
    depends_on_workflow_type: bool,
}

/// The suites that are no test programs of this workspace.
const SCHEMATHESIS: &str = "schemathesis";
const SECOND_STACK: &str = "second_stack";
const AWS_TEST: &str = "aws_test";

/// The suites that need nothing of a local stack, so that they test a deployment on AWS, too.
const EVERYWHERE: [&str; 5] = ["aws_contracts", "records", "query", "uploads", "requests"];

/// All suites in their order. The last one searches the logs and notifications that the others have left.
pub(crate) const ALL: [Suite; 22] = [
    Suite { test: "aws_contracts", title: "contracts of the AWS adapters", depends_on_workflow_type: false },
    Suite {
        test: "workflow",
        title: "the workflow's model agrees with the state machine",
        depends_on_workflow_type: false,
    },
    Suite { test: "records", title: "end to end: records", depends_on_workflow_type: true },
    Suite { test: "access", title: "end to end: access", depends_on_workflow_type: false },
    Suite {
        test: "callers",
        title: "end to end: callers with IAM credentials or a token",
        depends_on_workflow_type: false,
    },
    Suite { test: "permissions", title: "end to end: permissions", depends_on_workflow_type: false },
    Suite { test: "query", title: "end to end: query", depends_on_workflow_type: false },
    Suite { test: "uploads", title: "end to end: uploads", depends_on_workflow_type: false },
    Suite { test: "quickstarts", title: "end to end: quick starts", depends_on_workflow_type: false },
    Suite { test: "subscribers", title: "end to end: subscribers", depends_on_workflow_type: false },
    Suite { test: "requests", title: "end to end: requests", depends_on_workflow_type: false },
    Suite { test: "faults", title: "end to end: faults", depends_on_workflow_type: true },
    Suite { test: "recovery", title: "end to end: recovery", depends_on_workflow_type: true },
    Suite { test: "crashes", title: "end to end: crashes", depends_on_workflow_type: false },
    Suite { test: "outages", title: "end to end: outages", depends_on_workflow_type: true },
    Suite { test: "dead_letters", title: "end to end: dead letters", depends_on_workflow_type: false },
    Suite { test: "operation", title: "end to end: operation", depends_on_workflow_type: false },
    Suite { test: "runbooks", title: "end to end: runbooks", depends_on_workflow_type: false },
    Suite {
        test: SECOND_STACK,
        title: "a second stack, in an existing network and with a customer key, takes records",
        depends_on_workflow_type: false,
    },
    Suite {
        test: AWS_TEST,
        title: "`cargo xtask aws-test`, in brief and on this stack",
        depends_on_workflow_type: false,
    },
    Suite {
        test: SCHEMATHESIS,
        title: "requests that are made from docs/openapi.yaml get the documented answers",
        depends_on_workflow_type: false,
    },
    Suite {
        test: "secrets",
        title: "end to end: no secret in logs or notifications",
        depends_on_workflow_type: false,
    },
];

/// Returns the suites whose result may depend on the type of workflow.
pub(crate) fn differing() -> Vec<Suite> {
    ALL.into_iter().filter(|suite| suite.depends_on_workflow_type).collect()
}

/// Returns the suites that need nothing of a local stack.
pub(crate) fn everywhere() -> Vec<Suite> {
    ALL.into_iter().filter(|suite| EVERYWHERE.contains(&suite.test)).collect()
}

/// Returns the suite of this name.
pub(crate) fn parse(name: &str) -> Result<Suite, String> {
    ALL.into_iter().find(|suite| suite.test == name).ok_or_else(|| {
        let names = ALL.map(|suite| suite.test);
        format!("there is no suite of this name; the suites are {}", names.join(", "))
    })
}

/// Runs these suites, or all where there is none: `cargo xtask e2e`.
pub(crate) fn only(workflows: Workflows, suites: &[Suite]) -> anyhow::Result<()> {
    let mut checks = Checks::default();
    let suites = if suites.is_empty() { &ALL } else { suites };
    on_a_stack(&mut checks, Build::Local, workflows, suites)?;
    checks.print();
    Ok(())
}

/// Runs suites on a stack of their own, which is gone afterwards, whatever happened.
pub(crate) fn on_a_stack(
    checks: &mut Checks,
    build: Build,
    workflows: Workflows,
    suites: &[Suite],
) -> anyhow::Result<()> {
    let stack = Stack::named("test");
    let mut running = None;
    let mut programs = None;
    let result = checks
        .run(workflows.title(), || {
            stack.remove_leftovers()?;
            let compiled = build::programs(build)?;
            running = Some(stack.up(&compiled.functions, &compiled.cli, workflows)?);
            programs = Some(compiled);
            Ok(())
        })
        .and_then(|()| {
            let (Some(running), Some(programs)) = (&running, &programs) else { return Ok(()) };
            run_all(checks, suites, |suite| run(running, programs, suite.test, workflows))?;
            let title = "the answers that the suites got agree with docs/openapi.yaml";
            checks.run(title, || check_exchanges(running, suites.len() == ALL.len()))?;
            if suites.len() < ALL.len() {
                return Ok(());
            }
            let title = "the notifications that the suites got agree with docs/notification.schema.json";
            checks.run(title, || check_notifications(running))?;
            let title = "what the suites got from `custody --json` agrees with docs/cli.schema.json";
            checks.run(title, || check_cli_outputs(running))?;
            checks.run("no role has a permission that nothing uses", || check_permissions(running))
        });
    if result.is_err() {
        println!("\nThe logs of the failed run are in .custody/failed-test-logs.");
        stack.copy_logs(&workspace::state().join("failed-test-logs"));
    }
    stack.down()?;
    result?;
    checks.run("nothing is left behind", || running.as_ref().map_or(Ok(()), Running::expect_gone))
}

/// Runs every suite, also after one that fails: each shows something else.
pub(crate) fn run_all(
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

/// Compares the answers of the API with its description. `is_complete`: every documented answer must have occurred, too.
fn check_exchanges(running: &Running, is_complete: bool) -> anyhow::Result<()> {
    let python = Python::ready()?;
    let mut check = python.command("python");
    check
        .arg(workspace::python_files().join("check_exchanges.py"))
        .arg(workspace::root().join("docs/openapi.yaml"))
        .arg(running.exchanges_file())
        .args((!is_complete).then_some("--partial"));
    progress::run_visibly(&mut check)
}

/// Compares the notifications that arrived with their schema.
fn check_notifications(running: &Running) -> anyhow::Result<()> {
    let mut check = Python::ready()?.command("python");
    check
        .arg(workspace::python_files().join("check_notifications.py"))
        .arg(workspace::root().join("docs/notification.schema.json"))
        .arg(running.messages_file());
    progress::run_visibly(&mut check)
}

/// Compares what `custody --json` has printed with its schema.
fn check_cli_outputs(running: &Running) -> anyhow::Result<()> {
    let mut check = Python::ready()?.command("python");
    check
        .arg(workspace::python_files().join("check_cli_outputs.py"))
        .arg(workspace::root().join("docs/cli.schema.json"))
        .arg(running.cli_outputs_file());
    progress::run_visibly(&mut check)
}

/// Compares the permissions of the stack's roles with those that the suites have used.
fn check_permissions(running: &Running) -> anyhow::Result<()> {
    let python = Python::ready()?;
    let mut check = python.command("python");
    check.arg(workspace::python_files().join("check_permissions.py"));
    check.args([STACK_NAME]).arg(running.permissions_file());
    progress::run_visibly(running.point_test_at_stack(&mut check, &python))
}

fn run(running: &Running, programs: &Programs, name: &str, workflows: Workflows) -> anyhow::Result<()> {
    let python = Python::ready()?;
    if name == SECOND_STACK {
        return deploy_a_second_stack(running, programs, workflows);
    }
    if name == SCHEMATHESIS {
        let mut check = python.command("python");
        check.arg(workspace::python_files().join("check_with_schemathesis.py"));
        check.arg(workspace::root().join("docs/openapi.yaml"));
        return progress::run_visibly(running.point_test_at_stack(&mut check, &python));
    }
    if name == AWS_TEST {
        return aws_test::brief(running, programs);
    }
    let mut test = test_program(name)?;
    running.point_test_at_stack(&mut test, &python);
    let this_program = std::env::current_exe().context("find this program")?;
    progress::run_visibly(test.env("CUSTODY_XTASK", this_program).env("CUSTODY_CLI", &programs.cli))
}

/// Returns a command that runs a suite of the package `custody-e2e`.
fn test_program(name: &str) -> anyhow::Result<Command> {
    let sh = shell::in_workspace()?;
    let test = cmd!(sh, "cargo test --package custody-e2e --features stack --locked --quiet --test {name}");
    Ok(shell::cargo(test))
}

impl Suite {
    /// Returns a command that runs the suite.
    pub(crate) fn program(&self) -> anyhow::Result<Command> {
        test_program(self.test)
    }
}

/// Deploys the template a second time, into a network that exists, with a customer key and with a closed cache, and sends
/// records to it. Two deployments share no resource.
fn deploy_a_second_stack(running: &Running, programs: &Programs, workflows: Workflows) -> anyhow::Result<()> {
    let python = Python::ready()?;
    let script = |name: &str| {
        let mut command = python.command("python");
        command.arg(workspace::python_files().join(name));
        running.point_test_at_stack(&mut command, &python);
        command
    };
    let mut prepare = script("prepare_account.py");
    prepare.arg(workspace::root().join("docs/customer-key.yaml")).stderr(Stdio::inherit());
    let prepared = prepare.output().context("make a network and a key")?;
    ensure!(prepared.status.success(), "a network and a key could not be made: {}", prepared.status);
    let mut given: BTreeMap<String, String> =
        serde_json::from_slice(&prepared.stdout).context("read the new network and key")?;
    given.insert("CacheAdmission".to_owned(), "closed".to_owned());

    let name = SECOND_STACK_NAME;
    let second = Stack::deploy_beside(running, name, &programs.functions, &programs.cli, workflows, &given)?;
    let shared = second.shared_outputs(running);
    ensure!(shared.is_empty(), "both stacks have the same {}", shared.join(", "));
    let mut load = Command::new(&programs.test_client);
    load.args(["load", "--count", "3", "--size", "4KB,1MB"]);
    progress::run_visibly(second.point_at_stack(&mut load))?;

    let mut check = script("check_second_stack.py");
    let mut check =
        check.args([SECOND_STACK_NAME, second.output("IngestUrl")?]).stdin(Stdio::piped()).spawn()?;
    serde_json::to_writer(check.stdin.take().context("the script's input")?, &given)?;
    ensure!(check.wait()?.success(), "the second stack does not use what it was given");
    // The records went to the archive, so the cache could be replaced now.
    let mut drain = Command::new(&programs.cli);
    drain.args(["--stack-name", SECOND_STACK_NAME, "drain"]);
    progress::run_visibly(second.point_at_stack(&mut drain))
}
