//! Shared code of the end-to-end tests: a producer, a subscriber and an operator of the local stack.
//!
//! `cargo xtask test` starts the stack and passes its addresses to these tests in environment variables. A test that
//! runs without a stack fails, and its message explains why.

mod cli;
mod faults;
mod runbook;

pub use self::{
    cli::{
        created_api_key, custody_command, dead_letter_line, run_custody, run_custody_as, run_custody_json,
    },
    faults::{
        CacheFault, Denied, FullCache, NewVersion, Throttled, UnavailableService, apply_fault,
        apply_fault_concurrently, cache_nodes,
    },
    runbook::{Runbook, run_line},
};

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionError;
use custody_aws::{DynamoOpenRecords, S3AcceptanceMarkers};
use custody_core::{
    attempt::Attempt,
    error::ErrorKind,
    open_record::{OpenRecord, OpenState},
    ports::{AcceptanceMarkers, OpenRecords},
    receipt::{Durability, Receipt},
    record_id::RecordId,
};
use custody_test_client::{
    deployment::Deployment,
    queue,
    records::{Kind, Record, Size},
    sender::{Answer, Sender},
    subscriber::{Arrival, Subscriber},
};
use serde_json::Value;

/// The maximum time that a test waits for anything. It is longer than reconcile waits before it does what a failure
/// still has to do. It is not a limit for speed.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// A stack under test. Every test creates its own value, because clients belong to a test's runtime. All tests share
/// the readers of the queues.
#[derive(Debug)]
pub struct Stack {
    /// The endpoints and stores of the stack.
    pub deployment: Deployment,
    /// A producer. It sends a request again that is answered with 503, as the API's description says.
    pub sender: Sender,
    subscriber: &'static Subscriber,
}

static SUBSCRIBER: OnceLock<Subscriber> = OnceLock::new();
static DEAD_LETTERS: OnceLock<ReadMessages> = OnceLock::new();
static REJECTED_REQUESTS: OnceLock<ReadMessages> = OnceLock::new();

type ReadMessages = Arc<Mutex<Vec<Value>>>;

/// Returns an environment variable that `cargo xtask test` sets.
#[expect(clippy::disallowed_methods, reason = "tests get their stack through the environment")]
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run these tests with `cargo xtask test` or `cargo xtask e2e`")
    })
}

/// Returns an environment variable that may be absent.
#[expect(clippy::disallowed_methods, reason = "tests get their stack through the environment")]
fn option_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Stack {
    /// Returns the stack that `cargo xtask` started.
    pub async fn under_test() -> Self {
        let outputs = PathBuf::from(variable("CUSTODY_OUTPUTS"));
        let deployment = Deployment::load(&outputs, variable("CUSTODY_API_KEY"))
            .await
            .expect("the stack's outputs are readable");
        let subscriber =
            SUBSCRIBER.get_or_init(|| Subscriber::start(&deployment).expect("the subscriber starts"));
        let sender = Sender::new(&deployment).expect("the stack has an endpoint");
        let exchanges = PathBuf::from(variable("CUSTODY_STACK_FOLDER")).join("exchanges.jsonl");
        // On a busy machine, the emulator's tables may take longer than ingest waits.
        let sender = sender.recording(exchanges).patient();
        Self { deployment, sender, subscriber }
    }

    /// Returns the stack after what other suites have left was discarded, and nothing is open any more.
    pub async fn at_rest() -> Self {
        let stack = Self::under_test().await;
        let discard = |which: &[&str]| {
            let reason = ["--reason", "left by another suite"];
            let (status, printed) = run_custody(&[&["dlq", "discard"], which, &reason].concat());
            // Reconcile closes what an earlier command has discarded: it is gone then.
            assert!([0, 1, 3].contains(&status), "{status}: {printed}");
        };
        discard(&["--all"]);
        stack
            .reconcile_until("nothing is open", async || {
                let (_, failed) = run_custody_json(&["failed", "--limit", "10000"]);
                let failed = failed["records"].as_array().expect("`custody failed` has a list");
                let undecided = failed.iter().filter(|record| record["discarded"] != true);
                let ids: Vec<_> = undecided.filter_map(|record| record["messageID"].as_str()).collect();
                if !ids.is_empty() {
                    discard(&ids.iter().flat_map(|id| ["--id", id]).collect::<Vec<_>>());
                    return false;
                }
                let (_, open) = run_custody_json(&["open", "--limit", "10000"]);
                let mut records = open["records"].as_array().expect("`custody open` has a list").iter();
                // What a contract suite has left that failed is due in 2100.
                let is_due =
                    |record: &Value| !record["lookAt"].as_str().is_some_and(|at| at.starts_with("2100"));
                failed.is_empty() && open["markersCount"] == 0 && !records.any(is_due)
            })
            .await;
        stack
    }

    /// Waits until `holds` returns a value, or fails after [`PATIENCE`].
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

    /// Waits until the lines of all logs that contain a text satisfy `holds`, and returns them. Logs are written some time after an answer.
    pub async fn logged(&self, text: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.eventually(&format!("the log of {text}"), async || {
            let printed = run_support_script("logs_containing.py", &[text], "").expect("logs are readable");
            let lines: Vec<_> = printed.lines().map(str::to_owned).collect();
            holds(&lines).then_some(lines)
        })
        .await
    }

    /// Waits until a stage has logged that it refused a request, under the id that the answer gives to the caller.
    pub async fn refusal_logged(&self, stage: &str, answer: &Answer) {
        let problem = answer.json();
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        let (instance, kind) = (text("instance"), text("type"));
        let request_id = instance.trim_start_matches("urn:custody:request:");
        assert!(!request_id.is_empty(), "the answer names its request: {}", answer.body);
        let parts = [
            r#""message":"refused a request""#.to_owned(),
            format!(r#""stage":"{stage}""#),
            format!(r#""problem":"{}""#, kind.trim_start_matches("urn:custody:problem:")),
        ];
        let says_so = |line: &String| parts.iter().all(|part| line.contains(part));
        self.logged(request_id, |log| log.iter().any(says_so)).await;
    }

    /// Runs reconcile until `done` returns `true`. Tests of other records may run at the same time.
    pub async fn reconcile_until(&self, what: &str, done: impl AsyncFn() -> bool) {
        self.eventually(what, async || {
            if done().await {
                return Some(());
            }
            self.reconcile().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            None
        })
        .await;
    }

    /// Runs reconcile once, as the schedule does. Ignores a failure of that run, which is normal in an outage.
    pub async fn reconcile(&self) {
        let name = self.deployment.output("ReconcileFunctionName").expect("the stack has it");
        self.deployment.aws.lambda().invoke().function_name(name).send().await.ok();
    }

    /// Returns the status of a record's item, or an empty text if there is no item.
    pub async fn status(&self, id: RecordId) -> String {
        let item = custody_test_client::verify::item(&self.deployment, id).await.unwrap_or_default();
        item["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the open record of this id, or `None` if it is closed.
    pub async fn open_record(&self, id: RecordId) -> Option<OpenRecord> {
        let output = |name| self.deployment.output(name).expect("the stack has it").to_owned();
        let (open, claims) = (output("OpenTableName"), output("ClaimsTableName"));
        let table = DynamoOpenRecords::new(self.deployment.aws.dynamodb(), open, claims);
        OpenRecords::find(&table, id).await.expect("the open-record table answers")
    }

    /// Returns whether a record is open: it has an open record or an acceptance marker.
    pub async fn is_open(&self, id: RecordId) -> bool {
        let bucket = self.deployment.output("MarkerBucket").expect("the stack has it").to_owned();
        let markers = S3AcceptanceMarkers::new(self.deployment.aws.s3(), bucket);
        let marker = AcceptanceMarkers::find(&markers, Attempt::first(id)).await;
        self.open_record(id).await.is_some() || marker.expect("the marker bucket answers").is_some()
    }

    /// Returns whether a record has reached an end: it is closed, or failed with only a person's decision pending. Reconcile redrives a
    /// transient failure.
    pub async fn is_settled(&self, id: RecordId) -> bool {
        match self.open_record(id).await.map(|record| record.state) {
            None => !self.is_open(id).await,
            Some(OpenState::Failed { failure, pending_steps }) => {
                pending_steps.is_empty() && failure.kind != ErrorKind::Transient
            }
            Some(OpenState::InProgress) => false,
        }
    }

    /// Waits until a record's last notification has arrived. Stores all of its notifications for the search for
    /// secrets.
    pub async fn follow(&self, id: RecordId) -> anyhow::Result<Vec<Arrival>> {
        let arrivals = self.subscriber.follow(id, PATIENCE).await?;
        for arrival in &arrivals {
            append_to_messages_file(&arrival.event.to_string())?;
        }
        Ok(arrivals)
    }

    /// Waits until the notification of this record's `stage` has arrived, and stores it for the search for secrets.
    /// Notifications arrive in any order, so the notification of a branch may arrive after the record's last one.
    pub async fn announced(&self, id: RecordId, stage: &str) {
        let arrived = || self.subscriber.arrivals(id).into_iter().find(|arrival| arrival.stage() == stage);
        let what = format!("notification `{stage}` of record {id}");
        let arrival = self.eventually(&what, async || arrived()).await;
        append_to_messages_file(&arrival.event.to_string()).expect("the stack's folder can be written");
    }

    /// Waits for a dead letter for which `wanted` returns `true`.
    pub async fn dead_letter(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        wait_for_message(self.dead_letters(), wanted).await
    }

    /// Waits for a rejected request for which `wanted` returns `true`.
    pub async fn rejected_request(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let requests = REJECTED_REQUESTS.get_or_init(|| self.read_queue("RejectedQueueUrl"));
        wait_for_message(requests, wanted).await
    }

    /// Returns the number of dead letters so far for which `wanted` returns `true`.
    pub fn count_dead_letters(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        let dead_letters = self.dead_letters().lock().unwrap_or_else(PoisonError::into_inner);
        dead_letters.iter().filter(|dead_letter| wanted(&dead_letter["body"])).count()
    }

    /// Returns the dead letters that have arrived. The first call starts to take dead letters off their queue. A test
    /// that reads the queue itself, as an operator does, must not use this function.
    fn dead_letters(&self) -> &'static ReadMessages {
        DEAD_LETTERS.get_or_init(|| self.read_queue("DeadLetterQueueUrl"))
    }

    fn read_queue(&self, queue: &str) -> ReadMessages {
        let dead_letters = ReadMessages::default();
        start_reading_queue(&self.deployment, queue, Arc::clone(&dead_letters))
            .expect("the queue's reader starts");
        dead_letters
    }

    /// Sends a record until the cache takes its payload. On a busy machine, a slow answer of the cache sends a payload to the archive.
    pub async fn send_to_cache(&self, record: &Record) -> Receipt {
        let sent = async || {
            let receipt = self.sender.send(record).await.expect("the record is accepted").receipt;
            (receipt.durability != Durability::Archived).then_some(receipt)
        };
        self.eventually("the cache takes a payload", sent).await
    }

    /// Sends a record that fails: the archive function is denied writing to the archive while the record's workflow runs.
    pub async fn failed_record(&self, seed: u64) -> (Record, Receipt) {
        let archive = self.deployment.output("ArchiveFunctionName").expect("the stack names its functions");
        let denied = Denied::to(archive, "s3:PutObject");
        let record = Record::generate(Kind::Random, Size::Bytes(100_000), seed);
        // If a slow cache makes ingest archive the payload, the archive function fails as well: it cannot write the manifest.
        let receipt = self.sender.send(&record).await.expect("the record is accepted").receipt;
        self.execution(receipt.message_id).await.expect("the workflow ends");
        drop(denied);
        (record, receipt)
    }

    /// Waits until the first execution of a record has ended. Returns its status and the name of its error.
    pub async fn execution(&self, id: RecordId) -> anyhow::Result<(String, String)> {
        let machine = self.deployment.output("StateMachineArn")?;
        let name = Attempt::first(id).execution_name(1);
        let arn = format!("{}:{name}", machine.replace(":stateMachine:", ":execution:"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let described =
                self.deployment.aws.step_functions().describe_execution().execution_arn(&arn).send().await;
            match described {
                Ok(execution) if execution.status().as_str() != "RUNNING" => {
                    return Ok((
                        execution.status().as_str().to_owned(),
                        execution.error().unwrap_or_default().to_owned(),
                    ));
                }
                // Ingest starts the execution after its response.
                Err(error)
                    if !error
                        .as_service_error()
                        .is_some_and(DescribeExecutionError::is_execution_does_not_exist) =>
                {
                    return Err(error).with_context(|| format!("describe the execution of record {id}"));
                }
                _ => {}
            }
            ensure!(Instant::now() < deadline, "the execution of record {id} has not ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn wait_for_message(
    dead_letters: &ReadMessages,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = {
            let dead_letters = dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
            dead_letters.iter().find(|dead_letter| wanted(&dead_letter["body"])).cloned()
        };
        match found {
            Some(dead_letter) => return Ok(dead_letter),
            None if Instant::now() > deadline => bail!("no such dead letter arrived"),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn start_reading_queue(
    deployment: &Deployment,
    queue: &str,
    dead_letters: ReadMessages,
) -> anyhow::Result<()> {
    let url = deployment.output(queue)?.to_owned();
    queue::read_in_background(deployment.aws.clone(), url, move |message| {
        let text = message.body().unwrap_or_default();
        append_to_messages_file(text).expect("the stack's folder can be written");
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        let dead_letter = serde_json::json!({"body": body, "attributes": queue::attributes(message)});
        dead_letters.lock().unwrap_or_else(PoisonError::into_inner).push(dead_letter);
    })
}

/// Appends the text of a message to a file of the stack, in which the search for secrets finds it. A message is gone
/// from its queue after it was read.
fn append_to_messages_file(text: &str) -> anyhow::Result<()> {
    append_to_file("messages-seen.log", text)
}

fn append_to_file(name: &str, text: &str) -> anyhow::Result<()> {
    let file = PathBuf::from(variable("CUSTODY_STACK_FOLDER")).join(name);
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    // In one write: tests append at the same time.
    file.write_all(format!("{text}\n").as_bytes())?;
    Ok(())
}

/// Returns an output of the stack.
pub fn stack_output(name: &str) -> String {
    let file =
        std::fs::read_to_string(variable("CUSTODY_OUTPUTS")).expect("the stack's outputs are readable");
    let outputs: BTreeMap<String, String> = serde_json::from_str(&file).expect("the outputs are JSON");
    outputs.get(name).unwrap_or_else(|| panic!("the stack has no output {name}")).clone()
}

/// A producer or an auditor that exists until this value is dropped.
#[derive(Debug)]
pub struct Principal {
    /// The name of the principal, which no other has.
    pub name: String,
    /// The value of the API key.
    pub api_key: String,
}

impl Principal {
    /// Adds a principal. `rights` are options of `custody producer add`.
    pub fn add(rights: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let api_key = created_api_key(&[&["--json", "producer", "add", &name], rights].concat());
        wait_until_known(&api_key);
        Self { name, api_key }
    }
}

/// Waits until API Gateway knows a new key. The local stack knows each key at once; AWS takes some time.
fn wait_until_known(api_key: &str) {
    let is_told_to_wait = option_env("CUSTODY_NEW_KEYS_WAIT").is_some_and(|told| told == "true");
    let deadline = Instant::now() + PATIENCE;
    while is_told_to_wait && Instant::now() < deadline {
        let mut list = Command::new(variable("CUSTODY_CLI"));
        list.args(["list", "--source", "nobody", "--url", &stack_output("IngestUrl"), "--api-key", api_key]);
        let output = list.output().expect("the tool starts");
        if !String::from_utf8_lossy(&output.stderr).contains("API key") {
            return;
        }
        std::thread::sleep(Duration::from_secs(5));
    }
}

impl Drop for Principal {
    fn drop(&mut self) {
        run_custody(&["producer", "revoke", &self.name]);
    }
}

/// The bucket in which tests publish the keys of an issuer of tokens. The template creates no such bucket.
pub const ISSUER_BUCKET: &str = "custody-token-issuer";

/// Returns the bucket whose objects producers may send by reference. The template creates no such bucket.
pub fn reference_bucket() -> String {
    variable("CUSTODY_REFERENCE_BUCKET")
}

impl Stack {
    /// Sets the content of an object that may be sent by reference, or deletes it.
    pub async fn set_reference_source(&self, key: &str, content: Option<Vec<u8>>) {
        let (s3, bucket) = (self.deployment.aws.s3(), reference_bucket());
        let region = variable("AWS_REGION");
        // us-east-1 is no location constraint; another Region must be one.
        let place = (region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region.as_str()))
                .build()
        });
        // The bucket may be there already.
        drop(s3.create_bucket().bucket(&bucket).set_create_bucket_configuration(place).send().await);
        if let Some(content) = content {
            let put = s3.put_object().bucket(bucket).key(key).content_type("image/png");
            put.body(content.into()).send().await.expect("the object is stored");
        } else {
            s3.delete_object().bucket(bucket).key(key).send().await.expect("the object is deleted");
        }
    }
}

/// Runs one of the local stack's Python scripts and returns what it prints.
pub fn run_support_script(script: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../local-stack/python").join(script);
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
