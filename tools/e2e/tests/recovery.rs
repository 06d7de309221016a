//! Tests what reconcile repairs, and requests that are sent twice. The faults affect the whole stack, so these tests
//! run one after the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use custody_core::{
    attempt::Attempt,
    receipt::{Durability, Receipt},
    record_id::RecordId,
};
use custody_e2e::{CacheFault, Denied, Stack, apply_fault, cache_nodes};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn send_to_cache(stack: &Stack, seed: u64) -> (Record, Receipt) {
    let record = Record::generate(Kind::Random, Size::Bytes(200_000), seed);
    let receipt = stack.send_to_cache(&record).await;
    (record, receipt)
}

/// Denies the start of workflows to ingest and, on its schedule, to reconcile.
fn without_starts(stack: &Stack) -> [Denied; 2] {
    ["IngestFunctionName", "ReconcileFunctionName"]
        .map(|name| Denied::to(function(stack, name), "states:StartExecution"))
}

fn function<'a>(stack: &'a Stack, output: &str) -> &'a str {
    stack.deployment.output(output).unwrap()
}

#[tokio::test]
async fn a_record_whose_workflow_could_not_be_started_is_started_later() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = without_starts(&stack);
    let (record, receipt) = send_to_cache(&stack, 701).await;
    let id = receipt.message_id;
    // The denial must last until the work after the response has ended.
    stack.eventually("the payload has no expiry", async || has_no_expiry(id).then_some(())).await;
    assert!(stack.open_record(id).await.is_some());
    assert_eq!(stack.status(id).await, "", "no workflow has begun");
    drop(denied);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;
    let arrivals = stack.follow(id).await.unwrap();
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
    assert!(cached_keys().iter().all(|key| !key.contains(&id.to_string())), "its payload is unlinked");
}

/// Returns the keys of all payloads in the cache.
fn cached_keys() -> Vec<String> {
    let mut keys = Vec::new();
    for node in cache_nodes() {
        let mut connection = node.get_connection().unwrap();
        keys.extend(redis::cmd("KEYS").arg("*").query::<Vec<String>>(&mut connection).unwrap());
    }
    keys
}

fn has_no_expiry(id: RecordId) -> bool {
    cache_nodes().iter().any(|node| {
        let mut connection = node.get_connection().unwrap();
        redis::cmd("PTTL").arg(id.cache_key()).query::<i64>(&mut connection).is_ok_and(|ttl| ttl == -1)
    })
}

#[tokio::test]
async fn a_failure_that_could_not_be_handled_is_tried_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = [
        Denied::to(function(&stack, "ArchiveFunctionName"), "s3:PutObject"),
        Denied::to(function(&stack, "FailureFunctionName"), "s3:PutObject"),
    ];
    let (record, receipt) = send_to_cache(&stack, 702).await;
    let id = receipt.message_id;
    assert_eq!(stack.execution(id).await.unwrap(), ("FAILED".to_owned(), "FailureNotHandled".to_owned()));
    assert_eq!(stack.count_dead_letters(|dead_letter| dead_letter["messageID"] == id.to_string()), 0);
    drop(denied);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;
    let arrivals = stack.follow(id).await.unwrap();
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
}

#[tokio::test]
async fn a_workflow_that_was_stopped_is_started_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    // While the cache hangs, the execution tries again, for long enough to be stopped.
    let hanging = CacheFault::hanging();
    let record = Record::generate(Kind::Random, Size::Bytes(200_000), 703);
    let receipt = stack.sender.send(&record).await.unwrap().receipt;
    let id = receipt.message_id;
    let machine = function(&stack, "StateMachineArn");
    let name = Attempt::first(id).execution_name(1);
    let arn = format!("{}:{name}", machine.replace(":stateMachine:", ":execution:"));
    let client = stack.deployment.aws.step_functions();
    let stopped = async || client.stop_execution().execution_arn(&arn).send().await.is_ok().then_some(());
    stack.eventually("the execution is stopped", stopped).await;
    drop(hanging);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;
    let arrivals = stack.follow(id).await.unwrap();
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
    assert_eq!(stack.count_dead_letters(|dead_letter| dead_letter["messageID"] == id.to_string()), 0);
}

#[tokio::test]
async fn a_cache_that_loses_everything_costs_no_record_silently() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = without_starts(&stack);
    let mut sent = Vec::new();
    for seed in 710..715 {
        sent.push(send_to_cache(&stack, seed).await.1.message_id);
    }
    stack
        .eventually("the payloads have no expiry", async || {
            sent.iter().all(|id| has_no_expiry(*id)).then_some(())
        })
        .await;
    apply_fault("lose-cache");
    drop(denied);
    for id in sent {
        // The real failure function decides when it looks for the second time, more than a minute later.
        stack.reconcile_until("the loss is decided", async || stack.is_settled(id).await).await;
        let dead_letter =
            stack.dead_letter(|dead_letter| dead_letter["messageID"] == id.to_string()).await.unwrap();
        assert_eq!(dead_letter["body"]["errorName"], "PayloadLost", "{dead_letter}");
        assert_eq!(stack.status(id).await, "FAILED");
        assert!(stack.open_record(id).await.is_some(), "a person has to decide");
    }
}

#[tokio::test]
async fn a_cache_that_hangs_costs_the_producer_time_and_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let hanging = CacheFault::hanging();
    let record = Record::generate(Kind::Random, Size::Bytes(200_000), 704);
    let receipt = stack.sender.clone().impatient().send(&record).await.unwrap().receipt;
    drop(hanging);
    assert_eq!(receipt.durability, Durability::Archived);
    let id = receipt.message_id;
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;
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
    let sender = stack.sender.clone().impatient();
    let posts = (0..6).map(|_| sender.post(&headers, record.body.clone()));
    let mut answers: Vec<_> =
        futures_util::future::join_all(posts).await.into_iter().map(Result::unwrap).collect();
    // On a busy machine, the emulator's tables may take longer than ingest waits. Most answers come at once nevertheless.
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    assert!(refused <= 2, "{answers:?}");
    for answer in answers.iter_mut().filter(|answer| answer.status == 503) {
        *answer = stack.sender.post(&headers, record.body.clone()).await.unwrap();
    }
    let ids: std::collections::BTreeSet<_> = answers
        .iter()
        .map(|answer| {
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.json()["messageID"].to_string()
        })
        .collect();
    assert_eq!(ids.len(), 1, "six requests at once, one record");
    let fresh = answers.iter().filter(|answer| answer.header("idempotency-replayed") != "true").count();
    // A request that was refused may have created it.
    assert!(fresh == 1 || fresh == 0 && refused > 0, "one of them created the record: {answers:?}");
    let receipt: Receipt = serde_json::from_str(&answers[0].body).unwrap();
    let arrivals = stack.follow(receipt.message_id).await.unwrap();
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();

    // A request that is sent again after the record's end gets the same answer as before.
    let again = stack.sender.post(&headers, record.body.clone()).await.unwrap();
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, "true"));
    assert_eq!(again.json()["messageID"], receipt.message_id.to_string());
    let other = Record::generate(Kind::Text, Size::Bytes(50_000), 706);
    let conflict = stack.sender.post(&headers, other.body).await.unwrap();
    assert_eq!(conflict.status, 409, "{}", conflict.body);
    assert_eq!(conflict.json()["type"], "urn:custody:problem:idempotency-conflict");
}
