//! Breaks a part of the deployment, and follows the page of the alarm that rings then, as it stands.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{collections::HashMap, fs, path::Path};

use aws_sdk_s3::types::ChecksumAlgorithm;
use aws_sdk_sqs::types::QueueAttributeName;
use custody_core::{
    receipt::{Durability, Receipt},
    record_id::RecordId,
};
use custody_e2e::{
    CacheFault, Denied, FullCache, NewVersion, Runbook, Stack, Throttled, UnavailableService, run_line,
};
use custody_test_client::records::{Kind, Record, Size};
use tokio::sync::Mutex;

/// The tests look at the whole deployment, so they run one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn send(stack: &Stack, seed: u64) -> Receipt {
    let record = Record::generate(Kind::Random, Size::Bytes(50_000), seed);
    stack.sender.send(&record).await.unwrap().receipt
}

/// Waits until a record is complete and closed.
async fn is_complete(stack: &Stack, id: RecordId) {
    stack.reconcile_until("the record is complete and closed", async || !stack.is_open(id).await).await;
    assert_eq!(stack.status(id).await, "COMPLETED");
}

fn denied(stack: &Stack, function: &str, action: &str) -> Denied {
    Denied::to(stack.deployment.output(&format!("{function}FunctionName")).unwrap(), action)
}

/// Somebody has written another object under the key of a record. The page's commands of the AWS CLI are made with the SDK here.
#[tokio::test]
async fn a_conflict_is_ended_as_the_page_of_failed_records_says() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("FailedRecordAlarm");
    let cause = denied(&stack, "Archive", "s3:PutObject");
    let id = send(&stack, 1102).await.message_id;
    stack.execution(id).await.unwrap();
    let (bucket, key) = (stack.deployment.output("ArchiveBucket").unwrap(), id.archive_key());
    let s3 = stack.deployment.aws.s3();
    let foreign = s3.put_object().bucket(bucket).key(&key).body(b"of somebody else".to_vec().into());
    foreign.checksum_algorithm(ChecksumAlgorithm::Sha256).if_none_match("*").send().await.unwrap();
    drop(cause);
    stack
        .eventually("its failure is known", async || {
            run_line("custody failed").1.contains(&id.to_string()).then_some(())
        })
        .await;
    let redrive = format!("custody dlq redrive --id {id} --now --wait");
    let (status, printed) = run_line(&redrive);
    assert!(status == 1 && printed.contains("1 failed again"), "{printed}");
    let (_, trace) = run_line(&format!("custody trace {id}"));
    assert!(trace.contains("ArchiveConflict") && trace.contains("\"A conflict\""), "{trace}");
    assert!(trace.contains(&format!("archived: s3://{bucket}/{key}, 16 bytes")), "{trace}");

    let commands: Vec<_> = runbook
        .commands("A conflict")
        .into_iter()
        .map(|(command, _)| command.replace("ID", &id.to_string()))
        .collect();
    let begins =
        ["aws s3api list-object-versions", "aws s3api get-object", "aws s3api delete-object", &redrive];
    assert!(commands.iter().zip(begins).all(|(command, begin)| command.starts_with(begin)), "{commands:?}");
    assert_eq!(commands.len(), begins.len());
    let versions = s3.list_object_versions().bucket(bucket).prefix(&key).send().await.unwrap();
    let version = versions.versions()[0].version_id().unwrap();
    let delete = s3.delete_object().bucket(bucket).key(&key).version_id(version);
    delete.bypass_governance_retention(true).send().await.unwrap();
    let (status, printed) = run_line(&commands[3]);
    assert!(status == 0 && printed.contains("1 complete"), "{printed}");
    runbook.is_over(&stack).await;
}

#[tokio::test]
async fn failed_records_and_their_dead_letters() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    for alarm in ["FailedRecordAlarm", "DeadLetterAlarm"] {
        let runbook = Runbook::of(alarm);
        let cause = denied(&stack, "Archive", "s3:PutObject");
        let id = send(&stack, 1101).await.message_id;
        stack.execution(id).await.unwrap();
        let seen = async || {
            let seen = runbook.look();
            (seen.contains(&id.to_string()) && seen.contains("AccessDenied")).then_some(())
        };
        stack.eventually(&format!("the page of {alarm} shows record and cause"), seen).await;
        drop(cause);
        runbook.mend();
        runbook.is_over(&stack).await;
        stack
            .eventually("the record is complete", async || {
                (stack.status(id).await == "COMPLETED").then_some(())
            })
            .await;
    }
}

#[tokio::test]
async fn records_that_nothing_starts() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let causes = ["Ingest", "Reconcile"].map(|function| denied(&stack, function, "states:StartExecution"));
    let id = send(&stack, 1102).await.message_id;
    for alarm in ["OpenRecordAlarm", "StuckAlarm"] {
        let runbook = Runbook::of(alarm);
        let seen = async || {
            stack.reconcile().await;
            let seen = runbook.look();
            (seen.contains(&id.to_string()) && seen.contains("states:StartExecution")).then_some(())
        };
        stack.eventually(&format!("the page of {alarm} shows record and cause"), seen).await;
    }
    drop(causes);
    for alarm in ["OpenRecordAlarm", "StuckAlarm"] {
        Runbook::of(alarm).mend();
        Runbook::of(alarm).is_over(&stack).await;
    }
    assert_eq!(stack.status(id).await, "COMPLETED");
}

#[tokio::test]
async fn acceptances_that_are_only_markers() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("MarkerAlarm");
    // Ingest remembers a producer that it has seen, also while the table of producers is away.
    send(&stack, 1100).await;
    let unseen = denied(&stack, "Reconcile", "s3:ListBucket");
    let cause = denied(&stack, "Ingest", "dynamodb:*");
    let id = send(&stack, 1103).await.message_id;
    let seen = async || {
        let seen = runbook.look();
        (seen.contains(&id.to_string()) && seen.contains("dynamodb:PutItem")).then_some(())
    };
    stack.eventually("the page shows marker and cause", seen).await;
    drop((cause, unseen));
    runbook.mend();
    runbook.is_over(&stack).await;
    stack
        .eventually("the record is complete", async || (stack.status(id).await == "COMPLETED").then_some(()))
        .await;
}

#[tokio::test]
async fn failures_that_nobody_handles() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("FailureFunctionAlarm");
    let causes = ["Archive", "Failure"].map(|function| denied(&stack, function, "s3:PutObject"));
    let id = send(&stack, 1104).await.message_id;
    stack.execution(id).await.unwrap();
    let seen = async || {
        let seen = runbook.look();
        (seen.contains(&id.to_string()) && seen.contains("s3:PutObject")).then_some(())
    };
    stack.eventually("the page shows record and cause", seen).await;
    drop(causes);
    runbook.mend();
    runbook.is_over(&stack).await;
    assert_eq!(stack.status(id).await, "COMPLETED");
}

#[tokio::test]
async fn a_reconcile_that_fails() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("ReconcileErrorAlarm");
    let cause = denied(&stack, "Reconcile", "dynamodb:Query");
    let seen = async || {
        stack.reconcile().await;
        runbook.look().contains("dynamodb:Query").then_some(())
    };
    stack.eventually("the page shows the cause", seen).await;
    drop(cause);
    runbook.mend();
    runbook.is_over(&stack).await;
}

#[tokio::test]
async fn a_full_cache_and_one_without_its_replica() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let cause = FullCache::new();
    let fallback = Runbook::of("FallbackAlarm");
    let receipt = send(&stack, 1105).await;
    assert_eq!(receipt.durability, Durability::Archived);
    stack
        .eventually("the page shows the cause", async || fallback.look().contains("OOM").then_some(()))
        .await;
    let memory = Runbook::of("CacheMemoryAlarm");
    memory.look();
    drop(cause);
    memory.mend();
    memory.is_over(&stack).await;
    is_complete(&stack, receipt.message_id).await;

    let cause = CacheFault::killed_replica();
    // The replica is of one shard, so only some payloads are archived at once.
    let archived = async || (send(&stack, 1106).await.durability == Durability::Archived).then_some(());
    stack.eventually("a payload of the shard without its replica is archived", archived).await;
    // The test before may have paused the cache, whose cause is then shown first.
    let seen = async || {
        send(&stack, 1117).await;
        fallback.look().contains("replicas").then_some(())
    };
    stack.eventually("the page shows the cause", seen).await;
    drop(cause);
    fallback.mend();
    fallback.is_over(&stack).await;
    stack
        .eventually("every shard takes payloads again", async || {
            let mut all = true;
            for seed in 1112..1116 {
                all &= send(&stack, seed).await.durability == Durability::Replicated;
            }
            all.then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_cache_that_hangs_makes_producers_wait() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("ApiLatencyAlarm");
    let cause = CacheFault::hanging();
    let receipt = send(&stack, 1120).await;
    let seen = async || runbook.look().contains("fell back to the archive").then_some(());
    stack.eventually("the page shows the cause", seen).await;
    drop(cause);
    runbook.mend();
    is_complete(&stack, receipt.message_id).await;
    runbook.is_over(&stack).await;
}

#[tokio::test]
async fn producers_that_get_errors() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("ApiErrorAlarm");
    let causes = (FullCache::new(), denied(&stack, "Ingest", "s3:PutObject"));
    let sender = stack.sender.clone().impatient();
    let answer = sender.post(&[("content-type", "application/json")], record_of(1121)).await.unwrap();
    assert_eq!(
        (answer.status, answer.json()["type"].as_str()),
        (503, Some("urn:custody:problem:no-durable-store"))
    );
    let seen = async || {
        let seen = runbook.look();
        (seen.contains("no store took the payload") && seen.contains("s3:PutObject")).then_some(())
    };
    stack.eventually("the page shows problem and cause", seen).await;
    drop(causes);
    runbook.mend();
    let receipt = send(&stack, 1122).await;
    runbook.is_over(&stack).await;
    is_complete(&stack, receipt.message_id).await;
}

/// A request in JSON.
fn record_of(seed: u64) -> String {
    serde_json::json!({
        "messageMetaData": {
            "messageType": "runbook", "sourceSystemID": "custody-test-client", "dateTime": "2026-11-29T03:00:00Z",
        },
        "payloadEncoding": "utf8",
        "messagePayload": format!("record {seed}"),
    })
    .to_string()
}

#[tokio::test]
async fn a_quota_of_lambda_that_is_used_up() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("IngestThrottledAlarm");
    let cause = Throttled::function(stack.deployment.output("IngestFunctionName").unwrap());
    let answer = stack.sender.post(&[("content-type", "application/json")], record_of(1123)).await.unwrap();
    runbook.look();
    drop(cause);
    assert_eq!((answer.status, answer.json()["type"].as_str()), (500, Some("urn:custody:problem:internal")));
    runbook.mend();
    let receipt = send(&stack, 1124).await;
    is_complete(&stack, receipt.message_id).await;
    runbook.is_over(&stack).await;
}

#[tokio::test]
async fn a_quota_of_step_functions_that_is_used_up() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("WorkflowThrottledAlarm");
    let cause = UnavailableService::new("states-away");
    let id = send(&stack, 1125).await.message_id;
    let seen = async || runbook.look().contains(&id.to_string()).then_some(());
    stack.eventually("the page shows the record that waits", seen).await;
    drop(cause);
    runbook.mend();
    is_complete(&stack, id).await;
    runbook.is_over(&stack).await;
}

#[tokio::test]
async fn redrives_that_are_not_begun() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("RedriveErrorAlarm");
    let cause = denied(&stack, "Archive", "s3:PutObject");
    let id = send(&stack, 1126).await.message_id;
    stack.execution(id).await.unwrap();
    stack
        .eventually("it is listed", async || {
            run_line("custody dlq list").1.contains(&id.to_string()).then_some(())
        })
        .await;
    drop(cause);
    let cause = denied(&stack, "Redrive", "dynamodb:*");
    // SQS delivers a message again after six minutes; here, after seconds.
    let wait_for_redelivery = async |seconds: &str| {
        let url = stack.deployment.output("RedriveQueueUrl").unwrap();
        let attributes = HashMap::from([(QueueAttributeName::VisibilityTimeout, seconds.to_owned())]);
        let set = stack.deployment.aws.sqs().set_queue_attributes().queue_url(url);
        set.set_attributes(Some(attributes)).send().await.unwrap();
    };
    wait_for_redelivery("20").await;
    assert_eq!(run_line("custody dlq redrive --all --now").0, 0);
    let seen = async || {
        let seen = runbook.look();
        (seen.contains("dynamodb:") && seen.contains("redrive due")).then_some(())
    };
    stack.eventually("the page shows cause and record", seen).await;
    drop(cause);
    runbook.mend();
    runbook.is_over(&stack).await;
    wait_for_redelivery("360").await;
    is_complete(&stack, id).await;
}

#[tokio::test]
async fn new_versions_that_fail() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("NewVersionAlarm");
    let version = NewVersion::without(stack.deployment.output("IngestFunctionName").unwrap(), "OPEN_TABLE");
    let answer = stack.sender.post(&[("content-type", "application/json")], record_of(1127)).await.unwrap();
    assert!(answer.status >= 500, "{answer:?}");
    let seen = async || runbook.look().contains("could not start").then_some(());
    stack.eventually("the page shows the cause", seen).await;
    drop(version);
    runbook.mend();
    let receipt = send(&stack, 1128).await;
    is_complete(&stack, receipt.message_id).await;
    runbook.is_over(&stack).await;

    let runbook = Runbook::of("NewWorkflowAlarm");
    let version = NewVersion::in_workflow_without(
        stack.deployment.output("ArchiveFunctionName").unwrap(),
        "ARCHIVE_BUCKET",
    );
    let id = send(&stack, 1129).await.message_id;
    let seen = async || runbook.look().contains("could not start").then_some(());
    stack.eventually("the page shows the cause", seen).await;
    drop(version);
    runbook.mend();
    is_complete(&stack, id).await;
    runbook.is_over(&stack).await;
}

/// Only S3 itself can fail to copy an object, and the local stack copies none: the page's commands are followed, and nothing is broken.
#[tokio::test]
async fn the_page_about_the_second_archive_can_be_followed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::at_rest().await;
    let runbook = Runbook::of("ReplicationAlarm");
    runbook.look();
    runbook.mend();
    runbook.is_over(&stack).await;
}

/// A page that no test follows is found here.
#[test]
fn every_page_is_followed() {
    let this = include_str!("runbooks.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("docs/runbooks");
    for page in fs::read_dir(folder).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let name = name.trim_end_matches(".md");
        assert!(name == "README" || this.contains(&format!("\"{name}\"")), "{name}");
    }
}
