//! Deploys `template.yaml` to a stack, with the functions that cargo built.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    fs,
    hash::{Hash as _, Hasher as _},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};
use custody_redis_cluster::admin::{CACHE_USERS, CacheUser};
use serde::Deserialize;

use crate::{Running, Workflows, progress, tools::Python, workspace};

/// The files and folders of the workspace that a deployment is made from, apart from the functions.
const SOURCES: [&str; 3] = ["template.yaml", "samconfig.toml", "statemachine"];

/// The CloudFormation stack of the deployment.
pub const STACK_NAME: &str = "custody";

/// The bucket whose objects producers may send by reference. The stack does not create it.
pub const REFERENCE_BUCKET: &str = "custody-reference-sources";

/// The bucket in which tests publish the keys of an issuer of tokens. The stack does not create it.
pub(crate) const ISSUER_BUCKET: &str = "custody-token-issuer";

/// Returns a hash that changes when anything that is deployed changes.
pub(crate) fn fingerprint(functions: &[(String, PathBuf)], workflows: Workflows) -> anyhow::Result<String> {
    let mut files: Vec<PathBuf> = functions.iter().map(|(_, path)| path.clone()).collect();
    files.extend(SOURCES[..2].iter().map(|file| workspace::root().join(file)));
    files.push(workspace::root().join("statemachine/audit_record.asl.json"));
    let mut hasher = DefaultHasher::new();
    workflows.parameter().hash(&mut hasher);
    for file in files {
        fs::read(&file).with_context(|| format!("read {}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Deploys with `sam deploy`. In the folder that is deployed, each function's `CodeUri` holds the function's binary, as
/// `sam build` would have created it. The template there is a link to the workspace's template. `more` are further parameters
/// of the template. Returns the stack's outputs.
pub(crate) fn deploy(
    running: &Running,
    python: &Python,
    functions: &[(String, PathBuf)],
    workflows: Workflows,
    stack_name: &str,
    more: &BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let staging = running.folder.join("deploy");
    drop(fs::remove_dir_all(&staging));
    for (name, binary) in functions {
        let folder = staging.join("functions").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        fs::copy(binary, folder.join("bootstrap")).with_context(|| format!("copy {}", binary.display()))?;
    }
    for source in SOURCES {
        let link = staging.join(source);
        std::os::unix::fs::symlink(workspace::root().join(source), &link)
            .with_context(|| format!("link {}", link.display()))?;
    }

    let mut sam = with_clean_environment(running, python, "sam");
    sam.current_dir(&staging)
        // The tag that the deployment test asks for before it removes a stack.
        .args(["deploy", "--config-env", "local", "--stack-name", stack_name])
        .args(["--tags", &format!("custody-test={stack_name}"), "--parameter-overrides"])
        .arg(format!("CacheCaBundle={}", running.ca_file().display()))
        .args(["CacheShards=2", "CacheReplicas=1"])
        .arg(format!("ReferenceSources=arn:aws:s3:::{REFERENCE_BUCKET}/*"))
        .args(["DemoSubscriber=true", "IamCallers=true"])
        .arg(format!("TokenIssuer={}/{ISSUER_BUCKET}", running.endpoint()))
        .arg(format!("SubscriberFilter1={}", quoted(r#"{"type":["custody.message.failed.v1"]}"#)))
        .arg(format!("SubscriberFilter2={}", quoted(r#"{"sourceSystemID":[{"prefix":"cards-"}]}"#)))
        .arg(format!("StateMachineType={}", workflows.parameter()))
        // Shorter times than on AWS. A person who tests a stuck record does not have to wait two minutes. Retries wait
        // a tenth of their time on the local stack, so an execution has ended long before five minutes.
        .args(["ReconcileAfterSeconds=10", "ExpressRestartAfterSeconds=45"])
        .args(more.iter().map(|(name, value)| format!("{name}={value}")));
    progress::run_quietly(&mut sam, &running.folder.join("logs/deploy.log"))?;

    let mut settle = with_clean_environment(running, python, "python");
    settle.arg(workspace::python_files().join("settle.py")).arg(stack_name);
    let mut settle = settle
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("read the deployment's outputs")?;
    if let Some(mut stdin) = settle.stdin.take() {
        let passwords = CACHE_USERS.map(|CacheUser { name, .. }| (name, running.cache_password_of(name)));
        let passwords = serde_json::to_string(&BTreeMap::from(passwords))?;
        stdin.write_all(passwords.as_bytes()).context("hand over the cache's passwords")?;
    }
    let output = settle.wait_with_output().context("read the deployment's outputs")?;
    if !output.status.success() {
        bail!("could not read the deployment's outputs: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("read the deployment's outputs")
}

/// Returns a parameter's value as SAM reads it on its command line if the value has quotation marks.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\\\""))
}

/// The producer that sends the records of demo, load and tests.
const PRODUCER: &str = "local";

/// Adds a producer that may write records of every source system, as an operator does. `point` gives the operator's tool the
/// account. Returns the API key.
pub fn add_producer(
    cli: &Path,
    stack_name: &str,
    point: impl FnOnce(&mut Command) -> &mut Command,
) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Added {
        api_key: String,
    }
    let mut custody = Command::new(cli);
    custody
        .args(["--stack-name", stack_name, "--json", "producer", "add", PRODUCER, "--source", "*"])
        .stderr(Stdio::inherit());
    let output = point(&mut custody).output().context("add a producer")?;
    if !output.status.success() {
        bail!("could not add a producer: `custody producer add` ended with {}", output.status);
    }
    let added: Added = serde_json::from_slice(&output.stdout).context("read the new producer's API key")?;
    Ok(added.api_key)
}

/// Returns a command for a tool that sees this stack and none of the person's own AWS settings.
fn with_clean_environment(running: &Running, python: &Python, tool: &str) -> Command {
    let mut command = python.command(tool);
    command
        .env_clear()
        .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", python.bin().display()))
        .env("HOME", &running.folder)
        .env("TMPDIR", running.folder.join("tmp"))
        .env("LANG", "C.UTF-8")
        .env("SAM_CLI_TELEMETRY", "0")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    running.point_at_stack(&mut command);
    command
}
