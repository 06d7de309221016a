//! Shared code of the end-to-end tests: a producer, a subscriber and an operator of the local stack.
//!
//! `cargo xtask test` starts the stack and passes its addresses to these tests in environment variables. A test that
//! runs without a stack fails, and its message explains why.

mod cli;
mod environment;
mod faults;
mod messages;
mod principal;
mod references;
mod runbook;
mod waits;

pub use self::{
    cli::{
        created_api_key, custody_command, dead_letter_line, run_custody, run_custody_as, run_custody_json,
    },
    environment::{run_support_script, stack_output, variable},
    faults::{
        CacheFault, Denied, FullCache, NewVersion, Throttled, UnavailableService, apply_fault,
        apply_fault_concurrently, cache_nodes,
    },
    principal::Principal,
    references::{ISSUER_BUCKET, reference_bucket},
    runbook::{Runbook, run_line},
};

use std::{
    path::PathBuf,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
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
    records::{Kind, Record, Size},
    sender::Sender,
    subscriber::{Arrival, Subscriber},
};

use self::messages::append_to_messages_file;

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

    /// Returns whether a record has reached an end: it is closed, or failed with only a person's decision pending. A transient failure is
    /// no end, because reconcile redrives it.
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
