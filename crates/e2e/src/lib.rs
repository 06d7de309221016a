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
        DEAD_LETTERS.get_or_init(|| {
            let letters = DeadLetters::default();
            start_reading_dead_letters(&deployment, Arc::clone(&letters))
                .expect("the reader of dead letters starts");
            letters
        });
        let sender = Sender::new(&deployment).expect("the stack has an endpoint");
        Self { deployment, sender, subscriber }
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
