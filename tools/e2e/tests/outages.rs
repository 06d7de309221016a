//! Tests that a temporary outage of a service loses no record and no announcement, and sends no dead letter. An outage
//! affects the whole stack, so these tests run one after the other. Locally, retries wait a tenth of their time, so
//! that some seconds here correspond to some minutes on AWS.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::time::{Duration, Instant};

use custody_core::receipt::Receipt;
use custody_e2e::{Stack, UnavailableService, custody_command, run_custody_json, run_line};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use serde_json::Value;
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long an outage lasts; one that has acknowledged nothing by then lasts for a few requests more. A client tries a call for at most
/// as long, and the workflow tries a stage for longer.
const OUTAGE: Duration = Duration::from_secs(10);

/// Sends records before and during an outage. Expects each acknowledged record to be completed,
/// announced and closed after the outage, without a dead letter.
async fn check_outage(fault: &str, seed: u64) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let sender = stack.sender.clone().impatient();
    let mut acknowledged: Vec<(Record, Receipt)> = Vec::new();
    let mut post = async |number| {
        let record = Record::generate(Kind::Random, Size::Bytes(60_000), number);
        // A producer sends a request again that was not accepted. Here, the test sends another record instead.
        let sent = sender.send(&record).await;
        let is_acknowledged = sent.is_ok();
        acknowledged.extend(sent.map(|sent| (record, sent.receipt)));
        is_acknowledged
    };
    for n in 0..3 {
        post(seed + n).await;
    }
    let away = UnavailableService::new(fault);
    let (began, mut acknowledged_in_it) = (Instant::now(), 0);
    for n in 3..9 {
        acknowledged_in_it += u32::from(post(seed + n).await);
        // On a busy machine, there is time for fewer records.
        let left = OUTAGE.saturating_sub(began.elapsed());
        if left.is_zero() && acknowledged_in_it > 0 {
            break;
        }
        tokio::time::sleep(left.min(Duration::from_secs(2))).await;
    }
    drop(away);
    assert!(acknowledged_in_it > 0, "nothing was acknowledged in the outage");
    for (record, receipt) in &acknowledged {
        let id = receipt.message_id;
        stack.reconcile_until(&format!("record {id} is closed"), async || !stack.is_open(id).await).await;
        let arrivals = stack.follow(id).await.unwrap();
        verify::check_completed(&stack.deployment, record, receipt, &arrivals).await.unwrap();
        let dead_letters =
            stack.count_dead_letters(|dead_letter: &Value| dead_letter["messageID"] == id.to_string());
        assert_eq!(dead_letters, 0, "an outage sends no dead letter");
    }
}

#[tokio::test]
async fn an_outage_of_s3_costs_no_record() {
    check_outage("s3-away", 1100).await;
}

#[tokio::test]
async fn an_outage_of_dynamodb_costs_no_record() {
    check_outage("dynamodb-away", 1200).await;
}

#[tokio::test]
async fn an_outage_of_sns_costs_no_announcement() {
    check_outage("sns-away", 1300).await;
}

#[tokio::test]
async fn an_outage_of_step_functions_costs_no_record() {
    check_outage("states-away", 1400).await;
}

/// What an operator asks while S3 is away: what the other stores have is shown, and what is not known is named.
#[tokio::test]
async fn operators_see_what_the_other_stores_have_while_s3_is_away() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let away = UnavailableService::new("s3-away");
    let record = Record::generate(Kind::Random, Size::Bytes(60_000), 1500);
    let sent = stack.sender.clone().impatient().send(&record).await;
    let id = sent.expect("the cache takes it").receipt.message_id;
    let (status, trace) = run_line(&format!("custody trace {id}"));
    assert!(status == 1 && trace.contains("open: attempt 1, "), "{trace}");
    assert!(
        ["not known, because these parts", "  marker: ", "  payload: "]
            .iter()
            .all(|part| trace.contains(part)),
        "{trace}"
    );
    let (status, trace) = run_custody_json(&["trace", &id.to_string()]);
    assert!(status == 1 && trace["notKnown"][0]["part"] == "marker" && trace["payload"].is_null(), "{trace}");
    let (_, screen) = run_custody_json(&["status"]);
    assert!(screen["open"]["inProgress"].as_u64() > Some(0), "{screen}");
    let problems = screen["problems"].as_array().unwrap().iter().filter_map(Value::as_str);
    assert!(problems.filter(|problem| problem.starts_with("acceptance markers: ")).count() == 1, "{screen}");
    let (status, checks) = run_line("custody doctor");
    assert!(status == 1 && checks.contains("ask S3 about a record that nobody has sent"), "{checks}");
    assert!(checks.contains("away or overloaded, and no permission is missing"), "{checks}");
    let fsck = custody_command("OperatorRoleArn").arg("fsck").output().unwrap();
    let refused = String::from_utf8_lossy(&fsck.stderr);
    assert!(fsck.status.code() == Some(4) && refused.contains("`custody doctor` says which"), "{refused}");
    drop(away);
    stack.reconcile_until("the record is closed", async || !stack.is_open(id).await).await;
}
