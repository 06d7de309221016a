//! What the end-to-end tests share: a producer, a subscriber and an operator of the local stack.
//!
//! The stack is made by `cargo xtask test`, which tells these tests where it is. A test that is run without one fails
//! and says so.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use custody_core::record_id::RecordId;
use custody_test_client::{
    deployment::Deployment,
    queue,
    sender::Sender,
    subscriber::{Arrival, Subscriber},
};
use serde_json::Value;

/// How long anything may take before a test gives up on it. Not a bar for speed.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A stack under test. Every test makes its own, because clients live in a test's runtime; the readers of the
/// queues are shared.
#[derive(Debug)]
pub struct Stack {
    /// Its endpoints and stores.
    pub deployment: Deployment,
    /// A producer.
    pub sender: Sender,
    subscriber: &'static Subscriber,
}

static SUBSCRIBER: OnceLock<Subscriber> = OnceLock::new();
static DEAD_LETTERS: OnceLock<DeadLetters> = OnceLock::new();

type DeadLetters = Arc<Mutex<Vec<Value>>>;

/// A variable that `cargo xtask test` sets.
#[expect(clippy::disallowed_methods, reason = "tests get their stack through the environment")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run these tests with `cargo xtask test` or `cargo xtask e2e`")
    })
}

impl Stack {
    /// The stack that `cargo xtask` started.
    pub async fn under_test() -> Self {
        let outputs = PathBuf::from(variable("CUSTODY_OUTPUTS"));
        let deployment = Deployment::load(&outputs, variable("CUSTODY_API_KEY"))
            .await
            .expect("the stack's outputs are readable");
        let subscriber =
            SUBSCRIBER.get_or_init(|| Subscriber::start(&deployment).expect("the subscriber starts"));
        let sender = Sender::new(&deployment).expect("the stack has an endpoint");
        Self { deployment, sender, subscriber }
    }

    /// Waits until `holds` returns something, or gives up after [`PATIENCE`].
    pub async fn eventually<T>(&self, what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = holds().await {
                return value;
            }
            assert!(Instant::now() < deadline, "{what}: not within {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Runs reconcile until no record is pending, and returns its last report. Tests of other records may go on beside.
    pub async fn reconcile_until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let name = self.deployment.output("ReconcileFunctionName").expect("the stack has it");
        self.eventually(what, async || {
            if done().await {
                return Some(());
            }
            // One that fails, as in an outage, is as good as one that finds nothing.
            self.deployment.aws.lambda().invoke().function_name(name).send().await.ok();
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        })
        .await;
    }

    /// The status of a record's item; empty where there is none.
    pub async fn status(&self, id: RecordId) -> String {
        let item = custody_test_client::verify::item(&self.deployment, id).await.unwrap_or_default();
        item["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the cache or a marker still calls a record pending; the reconcile function knows.
    pub async fn is_pending(&self, id: RecordId) -> bool {
        let name = self.deployment.output("ReconcileFunctionName").expect("the stack has it");
        let question = serde_json::json!({"find": id}).to_string();
        let answer =
            self.deployment.aws.lambda().invoke().function_name(name).payload(question.into_bytes().into());
        let answer = answer
            .send()
            .await
            .ok()
            .and_then(|output| output.payload)
            .map(aws_sdk_lambda::primitives::Blob::into_inner);
        let listing: Value = serde_json::from_slice(&answer.unwrap_or_default()).unwrap_or_default();
        listing["pending"].as_array().is_none_or(|pending| !pending.is_empty())
    }

    /// Waits until a record's last notification has arrived, and keeps all of them for the search for secrets.
    pub async fn follow(&self, id: RecordId) -> anyhow::Result<Vec<Arrival>> {
        let arrivals = self.subscriber.follow(id, PATIENCE).await?;
        for arrival in &arrivals {
            keep_for_the_search(&arrival.event.to_string())?;
        }
        Ok(arrivals)
    }

    /// Waits for the dead letter that `wanted` recognizes.
    pub async fn dead_letter(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.watch_dead_letters();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = {
                let letters = DEAD_LETTERS
                    .get()
                    .context("the reader runs")?
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                letters.iter().find(|letter| wanted(&letter["body"])).cloned()
            };
            match found {
                Some(letter) => return Ok(letter),
                None if Instant::now() > deadline => bail!("no such dead letter arrived"),
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// How many dead letters that `wanted` recognizes have arrived so far.
    pub fn count_dead_letters(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.watch_dead_letters();
        let letters =
            DEAD_LETTERS.get().map(|letters| letters.lock().unwrap_or_else(PoisonError::into_inner));
        letters.map_or(0, |letters| letters.iter().filter(|letter| wanted(&letter["body"])).count())
    }

    /// Takes dead letters off their queue from now on, for [`Self::dead_letter`]. A test that looks at the queue itself, as
    /// an operator does, must not call either.
    fn watch_dead_letters(&self) {
        DEAD_LETTERS.get_or_init(|| {
            let letters = DeadLetters::default();
            start_reading_dead_letters(&self.deployment, Arc::clone(&letters))
                .expect("the reader of dead letters starts");
            letters
        });
    }

    /// Waits until a record's execution has ended; its status and its error's name.
    pub async fn execution(&self, id: RecordId) -> anyhow::Result<(String, String)> {
        let machine = self.deployment.output("StateMachineArn")?;
        let arn = format!("{}:{id}", machine.replace(":stateMachine:", ":execution:"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let execution =
                self.deployment.aws.step_functions().describe_execution().execution_arn(&arn).send().await;
            let execution = execution.with_context(|| format!("describe the execution of record {id}"))?;
            if execution.status().as_str() != "RUNNING" {
                return Ok((
                    execution.status().as_str().to_owned(),
                    execution.error().unwrap_or_default().to_owned(),
                ));
            }
            ensure!(Instant::now() < deadline, "the execution of record {id} does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn start_reading_dead_letters(deployment: &Deployment, letters: DeadLetters) -> anyhow::Result<()> {
    let url = deployment.output("DeadLetterQueueUrl")?.to_owned();
    queue::read_from_now_on(deployment.aws.clone(), url, move |message| {
        let text = message.body().unwrap_or_default();
        keep_for_the_search(text).expect("the stack's folder can be written");
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        let letter = serde_json::json!({"body": body, "attributes": queue::attributes(message)});
        letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
    })
}

/// Messages are gone from their queues once read, so what was in them is kept in a file of the stack.
fn keep_for_the_search(text: &str) -> anyhow::Result<()> {
    let file = PathBuf::from(variable("CUSTODY_STACK_FOLDER")).join("messages-seen.log");
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    writeln!(file, "{text}")?;
    Ok(())
}

/// Breaks a part of the stack, or mends it; see `cargo xtask break --help`.
pub fn break_part(fault: &str) {
    let mut command = Command::new(variable("CUSTODY_XTASK"));
    command.args(["--stack", &variable("CUSTODY_LOCAL_STACK"), "break", fault]);
    let status = command.stdout(Stdio::null()).status().expect("the task runner starts");
    assert!(status.success(), "`break {fault}` ended with {status}");
}

/// The server of the cache at one of its two ports, as its administrator.
pub fn redis_admin(port_variable: &str) -> redis::Client {
    let ca_file = std::fs::read(format!("{}/tls/ca.pem", variable("CUSTODY_STACK_FOLDER")));
    let url =
        format!("rediss://:{}@127.0.0.1:{}", variable("CUSTODY_REDIS_PASSWORD"), variable(port_variable));
    let root_cert = Some(ca_file.expect("the stack has an authority"));
    redis::Client::build_with_tls(url, redis::TlsCertificates { client_tls: None, root_cert })
        .expect("the address of a server")
}

/// Runs the operator's tool; its exit status and what it printed.
pub fn custody(arguments: &[&str]) -> (i32, String) {
    let output =
        Command::new(variable("CUSTODY_CLI")).args(arguments).output().expect("the operator's tool starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    std::io::stderr().write_all(errors.as_bytes()).ok();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An action denied to a function, until dropped.
#[derive(Debug)]
pub struct Denied(String);

impl Denied {
    /// Denies `action` to the function with this physical name.
    pub fn to(function: &str, action: &str) -> Self {
        operate("deny.py", &[function, action], "").expect("the denial is made");
        Self(function.to_owned())
    }
}

impl Drop for Denied {
    fn drop(&mut self) {
        operate("deny.py", &[&self.0, "--lift"], "").expect("the denial is lifted");
    }
}

/// Runs one of the Python scripts in `support/`, with boto3 as the operator's tool; what it prints.
pub fn operate(script: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("support").join(script);
    let mut command = Command::new(variable("CUSTODY_PYTHON"));
    command.arg(path).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {script}"))?;
    child.stdin.take().context("the script's input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{script} {arguments:?} ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
