//! What reconcile makes good, and requests that are sent twice. The faults are the whole stack's, so these tests run one
//! after the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use custody_core::receipt::{Durability, Receipt};
use custody_e2e::{Denied, Stack, break_part};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use serde_json::Value;
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn send(stack: &Stack, seed: u64) -> (Record, Receipt) {
    let record = Record::generate(Kind::Random, Size::Bytes(200_000), seed);
    let receipt = stack.sender.send(&record).await.unwrap().receipt;
    (record, receipt)
}

fn function<'a>(stack: &'a Stack, output: &str) -> &'a str {
    stack.deployment.output(output).unwrap()
}

#[tokio::test]
async fn a_record_whose_workflow_could_not_be_started_is_started_later() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = Denied::to(function(&stack, "IngestFunctionName"), "states:StartExecution");
    let (record, receipt) = send(&stack, 701).await;
    drop(denied);
    let id = receipt.message_id;
    assert!(stack.is_pending(id).await);
    assert_eq!(stack.status(id).await, "", "nothing has begun");
    stack.reconcile_until("the record is complete", async || stack.status(id).await == "COMPLETED").await;
    let arrivals = stack.follow(id).await.unwrap();
    verify::completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
    stack.reconcile_until("nothing is pending", async || !stack.is_pending(id).await).await;
}

#[tokio::test]
async fn a_failure_that_could_not_be_explained_is_explained_later() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = [
        Denied::to(function(&stack, "ArchiveFunctionName"), "s3:PutObject"),
        Denied::to(function(&stack, "FailureFunctionName"), "sqs:SendMessage"),
    ];
    let (record, receipt) = send(&stack, 702).await;
    let id = receipt.message_id;
    assert_eq!(stack.execution(id).await.unwrap(), ("FAILED".to_owned(), "FailureNotHandled".to_owned()));
    drop(denied);
    let is_its_own = |letter: &Value| letter["messageID"] == id.to_string();
    stack.reconcile_until("the failure is handled", async || !stack.is_pending(id).await).await;
    let letter = stack.dead_letter(is_its_own).await.unwrap();
    let body = &letter["body"];
    assert_eq!(
        (&body["stage"], &body["errorName"]),
        (&"archive".into(), &"AccessDenied".into()),
        "the first cause"
    );
    assert_eq!(stack.status(id).await, "FAILED");
    let reference = &body["payloadReference"];
    let (bucket, key) = (reference["bucket"].as_str().unwrap(), reference["key"].as_str().unwrap());
    assert_eq!(verify::object(&stack.deployment, bucket, key).await.unwrap(), record.payload);
    assert_eq!(stack.count_dead_letters(is_its_own), 1);
}

#[tokio::test]
async fn a_workflow_that_was_stopped_ends_in_a_dead_letter() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    // The archive cannot read the payload, and tries again, for long enough to be stopped.
    let (_, receipt) = {
        let denied = Denied::to(function(&stack, "IngestFunctionName"), "states:StartExecution");
        let sent = send(&stack, 703).await;
        drop(denied);
        sent
    };
    let id = receipt.message_id;
    break_part("hang-redis");
    let machine = function(&stack, "StateMachineArn");
    let message = serde_json::json!({"messageID": id}).to_string();
    let client = stack.deployment.aws.step_functions();
    // An execution under the record's name whose input no stage can read: it fails on the way, or is stopped.
    let arn = client
        .start_execution()
        .state_machine_arn(machine)
        .name(id.to_string())
        .input(message)
        .send()
        .await
        .unwrap()
        .execution_arn;
    client.stop_execution().execution_arn(&arn).send().await.ok();
    break_part("resume-redis");
    let (status, _) = stack.execution(id).await.unwrap();
    assert_ne!(status, "SUCCEEDED");
    stack.reconcile_until("the record is at its end", async || !stack.is_pending(id).await).await;
    let letter = stack.dead_letter(|letter| letter["messageID"] == id.to_string()).await.unwrap();
    assert_eq!(letter["body"]["stage"], "workflow", "{letter}");
    assert_eq!(stack.status(id).await, "FAILED");
}

#[tokio::test]
async fn a_cache_that_hangs_costs_the_producer_time_and_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    break_part("hang-redis");
    let record = Record::generate(Kind::Random, Size::Bytes(200_000), 704);
    let sent = stack.sender.send(&record).await;
    break_part("resume-redis");
    let receipt = sent.unwrap().receipt;
    assert_eq!(receipt.durability, Durability::Archived);
    let id = receipt.message_id;
    stack.reconcile_until("the record is complete", async || stack.status(id).await == "COMPLETED").await;
    stack.reconcile_until("its marker is gone", async || !stack.is_pending(id).await).await;
    let archived = verify::object(&stack.deployment, function(&stack, "ArchiveBucket"), &id.archive_key())
        .await
        .unwrap();
    assert_eq!(archived, record.payload);
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_one_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let record = Record::generate(Kind::Text, Size::Bytes(50_000), 705);
    let headers = [("content-type", "application/json"), ("idempotency-key", "decision-4711")];
    let posts = (0..6).map(|_| stack.sender.post(&headers, record.body.clone()));
    let answers: Vec<_> =
        futures_util::future::join_all(posts).await.into_iter().map(Result::unwrap).collect();
    let ids: std::collections::BTreeSet<_> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.json()["messageID"].to_string()
        })
        .collect();
    assert_eq!(ids.len(), 1, "six requests at once, one record");
    let fresh = answers.iter().filter(|answer| answer.header("idempotency-replayed") != "true").count();
    assert_eq!(fresh, 1, "one of them made it");
    let receipt: Receipt = serde_json::from_str(&answers[0].body).unwrap();
    let arrivals = stack.follow(receipt.message_id).await.unwrap();
    verify::completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();

    // After its end as before it.
    let again = stack.sender.post(&headers, record.body.clone()).await.unwrap();
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, "true"));
    assert_eq!(again.json()["messageID"], receipt.message_id.to_string());
    let other = Record::generate(Kind::Text, Size::Bytes(50_000), 706);
    let conflict = stack.sender.post(&headers, other.body).await.unwrap();
    assert_eq!(conflict.status, 409, "{}", conflict.body);
    assert_eq!(conflict.json()["type"], "urn:custody:problem:idempotency-conflict");
}
