//! A service that is away for a while costs no record, no dead letter and no announcement. The outages are the whole
//! stack's, so these tests run one after the other. Retries wait a tenth of their time locally, so that some seconds stand
//! for some minutes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::time::Duration;

use custody_core::receipt::Receipt;
use custody_e2e::{Away, Stack};
use custody_test_client::{
    records::{Kind, Record, Size},
    verify,
};
use serde_json::Value;
use tokio::sync::Mutex;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Sends records before and during an outage of twelve seconds, and expects each that was acknowledged to be complete,
/// announced and closed after it, without a dead letter.
async fn ride_out(fault: &str, seed: u64) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let stack = Stack::under_test().await;
    let mut acknowledged: Vec<(Record, Receipt)> = Vec::new();
    let mut post = async |number| {
        let record = Record::generate(Kind::Random, Size::Bytes(60_000), number);
        // A producer whose request is refused sends it again: here, another one is as good.
        if let Ok(sent) = stack.sender.send(&record).await {
            acknowledged.push((record, sent.receipt));
        }
    };
    for n in 0..3 {
        post(seed + n).await;
    }
    let away = Away::new(fault);
    for n in 3..9 {
        post(seed + n).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    drop(away);
    assert!(acknowledged.len() > 3, "nothing was acknowledged in the outage");
    for (record, receipt) in &acknowledged {
        let id = receipt.message_id;
        stack.reconcile_until(&format!("record {id} is closed"), async || !stack.is_open(id).await).await;
        let arrivals = stack.follow(id).await.unwrap();
        verify::completed(&stack.deployment, record, receipt, &arrivals).await.unwrap();
        let letters = stack.count_dead_letters(|letter: &Value| letter["messageID"] == id.to_string());
        assert_eq!(letters, 0, "an outage sends no dead letter");
    }
}

#[tokio::test]
async fn an_outage_of_s3_costs_no_record() {
    ride_out("s3-away", 1100).await;
}

#[tokio::test]
async fn an_outage_of_dynamodb_costs_no_record() {
    ride_out("dynamodb-away", 1200).await;
}

#[tokio::test]
async fn an_outage_of_sns_costs_no_announcement() {
    ride_out("sns-away", 1300).await;
}

#[tokio::test]
async fn an_outage_of_step_functions_costs_no_record() {
    ride_out("states-away", 1400).await;
}
