//! Tests what happens to records and requests when a service refuses calls. The faults are real: denied permissions,
//! and a full cache. They affect the whole stack, so these tests run one after the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use custody_core::receipt::{Durability, Receipt};
use custody_e2e::{Denied, FullCache, Stack};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use serde_json::Value;
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn send(stack: &Stack, seed: u64) -> (Record, Receipt) {
    let record = Record::generate(Kind::Random, Size::Bytes(300_000), seed);
    let receipt = stack.sender.clone().impatient().send(&record).await.unwrap().receipt;
    (record, receipt)
}

async fn send_to_cache(stack: &Stack, seed: u64) -> (Record, Receipt) {
    let record = Record::generate(Kind::Random, Size::Bytes(300_000), seed);
    let receipt = stack.send_to_cache(&record).await;
    (record, receipt)
}

async fn content(stack: &Stack, reference: &Value) -> Vec<u8> {
    let (bucket, key) = (reference["bucket"].as_str().unwrap(), reference["key"].as_str().unwrap());
    verify::object(&stack.deployment, bucket, key).await.unwrap()
}

#[tokio::test]
async fn a_record_that_cannot_be_archived_fails_with_its_payload_and_its_metadata_kept() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = Denied::to(stack.deployment.output("ArchiveFunctionName").unwrap(), "s3:PutObject");
    let (record, receipt) = send_to_cache(&stack, 501).await;
    let id = receipt.message_id;
    let arrivals = stack.follow(id).await.unwrap();
    stack.announced(id, "metadata-stored").await;
    drop(denied);

    assert_eq!(stack.execution(id).await.unwrap(), ("FAILED".to_owned(), "AccessDenied".to_owned()));
    assert!(!arrivals.iter().any(|arrival| arrival.stage() == "completed"), "{arrivals:?}");
    let failed = arrivals.iter().find(|arrival| arrival.stage() == "failed").unwrap();
    assert_eq!(failed.event["data"]["failure"]["stage"], "archive");
    assert_eq!(failed.attributes["type"], "custody.message.failed.v1");

    let dead_letter =
        stack.dead_letter(|dead_letter| dead_letter["messageID"] == id.to_string()).await.unwrap();
    let body = &dead_letter["body"];
    assert_eq!(
        (&body["stage"], &body["kind"], &body["errorName"]),
        (&"archive".into(), &"Internal".into(), &"AccessDenied".into())
    );
    assert_eq!(dead_letter["attributes"]["errorName"], "AccessDenied");
    assert!(body["reason"].as_str().unwrap().contains("store object"), "{body}");
    assert!(body["executionArn"].as_str().unwrap().contains(&id.to_string()), "{body}");
    assert_eq!(body["request"]["messageID"], id.to_string());
    assert_eq!(body["payloadReference"]["bucket"], stack.deployment.output("FailedBucket").unwrap());
    assert_eq!(content(&stack, &body["payloadReference"]).await, record.payload, "the payload is preserved");

    let item = verify::item(&stack.deployment, id).await.unwrap();
    assert_eq!(item["status"], "FAILED");
    assert!(item["metaDataStoredAt"].is_string(), "the item has the result of the other branch: {item}");
    assert_eq!(item["failure"]["stage"], "archive");
}

#[tokio::test]
async fn a_record_whose_metadata_cannot_be_stored_fails_with_its_archived_object_kept() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = Denied::to(stack.deployment.output("MetadataFunctionName").unwrap(), "dynamodb:PutItem");
    let (record, receipt) = send_to_cache(&stack, 502).await;
    let id = receipt.message_id;
    stack.follow(id).await.unwrap();
    stack.announced(id, "archived").await;
    drop(denied);

    assert_eq!(stack.execution(id).await.unwrap(), ("FAILED".to_owned(), "AccessDenied".to_owned()));
    let dead_letter =
        stack.dead_letter(|dead_letter| dead_letter["messageID"] == id.to_string()).await.unwrap();
    let body = &dead_letter["body"];
    assert_eq!(body["stage"], "metadata");
    assert_eq!(body["payloadReference"]["bucket"], stack.deployment.output("ArchiveBucket").unwrap());
    assert_eq!(content(&stack, &body["payloadReference"]).await, record.payload);
    let item = verify::item(&stack.deployment, id).await.unwrap();
    assert_eq!((&item["status"], &item["sourceSystemID"]), (&"FAILED".into(), &"custody-test-client".into()));
}

#[tokio::test]
async fn an_announcement_that_cannot_be_published_is_pending_until_it_can_be() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let denied = [
        Denied::to(stack.deployment.output("ArchiveFunctionName").unwrap(), "s3:PutObject"),
        Denied::to(stack.deployment.output("MetadataFunctionName").unwrap(), "dynamodb:PutItem"),
        Denied::to(stack.deployment.output("FailureFunctionName").unwrap(), "sns:Publish"),
    ];
    let (_, receipt) = send_to_cache(&stack, 503).await;
    let id = receipt.message_id;
    let is_of_this_record = |dead_letter: &Value| dead_letter["messageID"] == id.to_string();
    stack.dead_letter(is_of_this_record).await.unwrap();
    assert_eq!(stack.execution(id).await.unwrap(), ("FAILED".to_owned(), "FailureUnfinished".to_owned()));
    assert!(!stack.is_settled(id).await, "the announcement is pending");
    drop(denied);
    stack.reconcile_until("the rest is done", async || stack.is_settled(id).await).await;
    stack.follow(id).await.unwrap();
    assert_eq!(stack.status(id).await, "FAILED");
    assert_eq!(stack.count_dead_letters(is_of_this_record), 1, "the operator was told once");
}

#[tokio::test]
async fn a_table_that_takes_no_acceptance_costs_no_record_and_turns_keyed_requests_away() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    // A scheduled run of reconcile that sees no markers cannot adopt this one before the test looks at it.
    let blind = Denied::to(stack.deployment.output("ReconcileFunctionName").unwrap(), "s3:ListBucket");
    // A process of ingest that remembers the producer needs no table to know it.
    send_to_cache(&stack, 507).await;
    let denied = Denied::to(stack.deployment.output("IngestFunctionName").unwrap(), "dynamodb:*");
    let (record, receipt) = send_to_cache(&stack, 506).await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "while-the-table-is-away")];
    let keyed = stack.sender.clone().impatient().post(&headers, record.body.clone()).await.unwrap();
    drop(denied);
    let id = receipt.message_id;
    assert_eq!(receipt.durability, Durability::Replicated);
    assert_eq!((keyed.status, keyed.header("retry-after")), (503, "5"), "{}", keyed.body);
    assert_eq!(keyed.json()["type"], "urn:custody:problem:idempotency-unavailable");
    assert!(stack.open_record(id).await.is_none() && stack.is_open(id).await, "a marker is the acceptance");
    drop(blind);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;
    let arrivals = stack.follow(id).await.unwrap();
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
}

#[tokio::test]
async fn a_full_cache_makes_the_archive_take_the_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let full = FullCache::new();
    let (record, receipt) = send(&stack, 504).await;
    assert_eq!(receipt.durability, Durability::Archived);
    let arrivals = stack.follow(receipt.message_id).await.unwrap();
    drop(full);
    verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
    stack.reconcile_until("it is closed", async || !stack.is_open(receipt.message_id).await).await;
}

#[tokio::test]
async fn without_any_store_the_request_is_a_dead_letter_and_nothing_is_promised() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let full = FullCache::new();
    let denied = Denied::to(stack.deployment.output("IngestFunctionName").unwrap(), "s3:PutObject");
    let record = Record::generate(Kind::Text, Size::Bytes(300_000), 505);
    let sender = stack.sender.clone().impatient();
    let answer = sender.post(&[("content-type", "application/json")], record.body.clone()).await.unwrap();
    let request_id = |problem: &Value| {
        problem["instance"].as_str().unwrap().trim_start_matches("urn:custody:request:").to_owned()
    };
    let problem = answer.json();
    let id = request_id(&problem);
    let dead_letter =
        stack.dead_letter(|dead_letter| dead_letter["request"]["requestId"] == id).await.unwrap();
    drop(denied);
    drop(full);
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(problem["type"], "urn:custody:problem:no-durable-store");
    assert_eq!(
        (&dead_letter["body"]["kind"], &dead_letter["body"]["errorName"]),
        (&"Transient".into(), &"NoDurableStore".into())
    );
    // No store accepts bytes. The producer was told so, and still has them.
    assert_eq!(dead_letter["body"]["payloadReference"], Value::Null);
    assert!(
        dead_letter["body"]["unfinished"][0].as_str().unwrap().contains("could not be preserved"),
        "{dead_letter}"
    );
}
