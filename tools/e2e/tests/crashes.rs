//! Runs a sample of the simulation on the real stack: processes are killed while records are sent, and every record
//! whose producer holds a receipt must reach its end with its exact bytes. The tests run one after the other, because
//! they share the stack.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::time::Duration;

use custody_core::receipt::Receipt;
use custody_e2e::{Stack, UnavailableService, apply_fault, apply_fault_concurrently};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use serde_json::Value;
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

type Acknowledged = (Record, Receipt);

/// How often a request is sent at most where the fault may not keep any record from being acknowledged.
const FEW: u32 = 4;

/// The same where the fault may last for some seconds.
const MANY: u32 = 20;

/// Sends records, three at a time, while `chaos` runs, each with at most `tries` requests. Returns those that were acknowledged.
async fn send_during(
    stack: &Stack,
    seed: u64,
    count: u64,
    tries: u32,
    chaos: impl Future<Output = ()>,
) -> Vec<Acknowledged> {
    use futures_util::StreamExt as _;
    let sends = (0..count).map(|n| async move {
        let record = Record::generate(Kind::Random, Size::Bytes(60_000), seed * 1000 + n);
        let key = format!("crash-{seed}-{n}");
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        // A producer without an answer sends the request again, as the API's description requires.
        let sender = stack.sender.clone().impatient();
        for _ in 0..tries {
            if let Ok(answer) = sender.post(&headers, record.body.clone()).await
                && answer.status == 200
            {
                let receipt = serde_json::from_str(&answer.body).expect("a receipt is JSON");
                return Some((record, receipt));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        None
    });
    let sending = futures_util::stream::iter(sends).buffer_unordered(3).collect::<Vec<_>>();
    let (sent, ()) = futures_util::future::join(sending, chaos).await;
    sent.into_iter().flatten().collect()
}

/// Checks that every acknowledged record is completed with its exact bytes, or failed with a dead letter that refers to
/// its exact bytes. Returns how many records have failed.
async fn check(stack: &Stack, acknowledged: &[Acknowledged]) -> usize {
    assert!(!acknowledged.is_empty(), "no record was acknowledged, so the test shows nothing");
    let mut failed = 0;
    for (record, receipt) in acknowledged {
        let id = receipt.message_id;
        stack.reconcile_until(&format!("record {id} is settled"), async || stack.is_settled(id).await).await;
        let bucket = if stack.status(id).await == "COMPLETED" {
            (stack.deployment.output("ArchiveBucket").unwrap().to_owned(), id.archive_key())
        } else {
            failed += 1;
            let is_of_this_record = |dead_letter: &Value| dead_letter["messageID"] == id.to_string();
            let dead_letter = stack.dead_letter(is_of_this_record).await.unwrap();
            let reference = &dead_letter["body"]["payloadReference"];
            (reference["bucket"].as_str().unwrap().to_owned(), reference["key"].as_str().unwrap().to_owned())
        };
        let kept = verify::object(&stack.deployment, &bucket.0, &bucket.1).await.unwrap();
        assert_eq!(kept, record.payload, "record {id}");
    }
    // Shows in the log how many records the faults have affected.
    eprintln!("{} acknowledged, of these {failed} failed", acknowledged.len());
    failed
}

#[tokio::test]
async fn functions_that_are_killed_lose_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(350)).await;
            apply_fault_concurrently("kill-functions").await;
        }
    };
    let acknowledged = send_during(&stack, 801, 30, MANY, chaos).await;
    check(&stack, &acknowledged).await;
}

/// The number of records whose function is killed between its response and the start of the workflow.
const KILLS: usize = 50;

#[tokio::test]
async fn functions_that_are_killed_between_response_and_start_lose_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let mut acknowledged = Vec::new();
    // A function that has sent its receipt hangs in the start of the workflow, and the workflow never starts.
    let hanging = UnavailableService::new("states-hang");
    for seed in (807_000..).step_by(2).take(KILLS) {
        let records = [seed, seed + 1].map(|seed| Record::generate(Kind::Random, Size::Bytes(60_000), seed));
        let (one, other) =
            futures_util::future::join(stack.sender.send(&records[0]), stack.sender.send(&records[1])).await;
        apply_fault("kill-functions");
        // The emulator may give a request to a process that was killed a moment before. Its producer gets a 502 and no
        // receipt, so nothing is promised.
        let sent = records.into_iter().zip([one, other]);
        acknowledged.extend(sent.filter_map(|(record, sent)| Some((record, sent.ok()?.receipt))));
        if acknowledged.len() >= KILLS {
            break;
        }
    }
    assert!(acknowledged.len() >= KILLS, "only {} requests got a receipt", acknowledged.len());
    drop(hanging);
    assert_eq!(check(&stack, &acknowledged).await, 0, "a late start fails no record");
}

#[tokio::test]
async fn a_shard_that_is_added_costs_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        apply_fault_concurrently("add-shard").await;
    };
    let acknowledged = send_during(&stack, 808, 60, FEW, chaos).await;
    assert_eq!(acknowledged.len(), 60, "slots that move reject no request");
    assert_eq!(check(&stack, &acknowledged).await, 0, "a payload moves with its slot");
}

#[tokio::test]
async fn a_cache_that_crashes_and_comes_back_loses_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            apply_fault_concurrently("kill-cache").await;
            tokio::time::sleep(Duration::from_millis(1500)).await;
            apply_fault_concurrently("start-cache").await;
        }
    };
    let acknowledged = send_during(&stack, 802, 30, MANY, chaos).await;
    check(&stack, &acknowledged).await;
}

#[tokio::test]
async fn a_shard_that_fails_over_loses_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        apply_fault_concurrently("fail-over-shard").await;
    };
    let acknowledged = send_during(&stack, 803, 30, MANY, chaos).await;
    check(&stack, &acknowledged).await;
}

#[tokio::test]
async fn a_replica_that_is_replaced_costs_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        apply_fault_concurrently("kill-replica").await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        apply_fault_concurrently("start-replica").await;
    };
    let acknowledged = send_during(&stack, 805, 30, FEW, chaos).await;
    assert_eq!(acknowledged.len(), 30, "a missing replica causes no rejected request");
    check(&stack, &acknowledged).await;
}

#[tokio::test]
async fn a_cache_that_loses_everything_in_flight_loses_no_record_silently() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        apply_fault_concurrently("lose-cache").await;
    };
    let acknowledged = send_during(&stack, 806, 30, MANY, chaos).await;
    let mut lost = 0;
    for (record, receipt) in &acknowledged {
        let id = receipt.message_id;
        stack.reconcile_until(&format!("record {id} is settled"), async || stack.is_settled(id).await).await;
        if stack.status(id).await == "COMPLETED" {
            let bucket = stack.deployment.output("ArchiveBucket").unwrap();
            let archived = verify::object(&stack.deployment, bucket, &id.archive_key()).await.unwrap();
            assert_eq!(archived, record.payload, "record {id}");
        } else {
            let dead_letter =
                stack.dead_letter(|dead_letter| dead_letter["messageID"] == id.to_string()).await.unwrap();
            assert_eq!(dead_letter["body"]["errorName"], "PayloadLost", "{dead_letter}");
            lost += 1;
        }
    }
    eprintln!("{} acknowledged, of these {lost} were lost and have a dead letter", acknowledged.len());
}

#[tokio::test]
async fn a_restart_of_ministack_loses_no_record() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let chaos = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        apply_fault_concurrently("restart-ministack").await;
    };
    let acknowledged = send_during(&stack, 804, 30, MANY, chaos).await;
    check(&stack, &acknowledged).await;
}
