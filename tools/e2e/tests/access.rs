//! Tests of access on the real API: producers that `custody producer` adds may send their own records and nothing else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use custody_core::receipt::{Durability, Receipt};
use custody_e2e::{Principal, Stack, UnavailableService, created_api_key as api_key, run_custody};
use custody_test_client::{sender::Answer, verify};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

/// A change of the access of one principal lists all entries, and one test makes the table unavailable.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

async fn send(stack: &Stack, api_key: &str, source: &str, idempotency_key: Option<&str>) -> Answer {
    let body = json!({
        "messageMetaData": {"messageType": "test", "sourceSystemID": source, "dateTime": "2026-11-20T22:21:00Z"},
        "messagePayload": "a payload that no log may have",
        "payloadEncoding": "utf8",
    });
    let mut headers = vec![("content-type", "application/json"), ("x-api-key", api_key)];
    headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
    stack.sender.post(&headers, body.to_string()).await.unwrap()
}

fn receipt(answer: &Answer) -> Receipt {
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The status of an answer, and the `type` of its problem without the prefix.
fn problem(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    (answer.status, kind.trim_start_matches("urn:custody:problem:").to_owned())
}

async fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

#[tokio::test]
async fn a_producer_sends_records_of_its_own_sources_and_is_named_in_them() {
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let loans = Principal::add(&["--source", "loans", "--source", "mortgages-*"]);
    let receipts = [
        receipt(&send(&stack, &loans.api_key, "loans", None).await),
        receipt(&send(&stack, &loans.api_key, "mortgages-eu", None).await),
    ];
    for source in ["cards", "loans2", "mortgages", "LOANS", "../loans"] {
        let denied = send(&stack, &loans.api_key, source, None).await;
        assert_eq!(problem(&denied), (403, "forbidden".to_owned()), "{source}");
        let detail = denied.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("loans, mortgages-*"), "the detail tells what is allowed: {detail}");
    }
    for receipt in receipts {
        stack.follow(receipt.message_id).await.unwrap();
        let item = verify::item(&stack.deployment, receipt.message_id).await.unwrap();
        assert_eq!(item["messageSecurityContext"]["requestContext"]["principal"], loans.name.as_str());
    }
}

#[tokio::test]
async fn a_denial_is_in_the_access_log_and_stores_nothing() {
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let cards = Principal::add(&["--source", "cards", "--rate", "50"]);
    receipt(&send(&stack, &cards.api_key, "cards", None).await);
    let denied = send(&stack, &cards.api_key, "loans", None).await;
    assert_eq!(denied.status, 403);
    let instance = denied.json()["instance"].as_str().unwrap().to_owned();
    let request_id = instance.trim_start_matches("urn:custody:request:");
    let is_denial = |line: &&String| line.contains("denied access");
    let log = stack.logged(request_id, |log| log.iter().any(|line| is_denial(&line))).await;
    let line = log.iter().find(is_denial).unwrap();
    let entry: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    let text = entry.to_string();
    for part in [
        "\"access.action\":\"write\"",
        "\"access.source_system_id\":\"loans\"",
        "api-key:",
        "access.source_ip",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(!text.contains(&cards.api_key) && !text.contains("a payload that no log may have"), "{text}");
    let (status, listed) = run_custody(&["--json", "rejected", "list"]);
    assert_eq!(status, 0);
    assert!(!listed.contains(request_id), "a denied request is not stored");
}

#[tokio::test]
async fn a_rejected_request_is_found_by_the_instance_that_its_producer_quotes() {
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let answer = stack.sender.post(&[("content-type", "application/json")], "[]").await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
    let instance = answer.json()["instance"].as_str().unwrap().to_owned();
    stack
        .eventually("the rejected request is found", async || {
            let (status, text) = run_custody(&["trace", &instance]);
            (status == 0 && text.contains("MalformedRequest")).then_some(())
        })
        .await;
    let (status, checks) = run_custody(&["doctor"]);
    // Other tests leave failed records, and take the cache away.
    assert!(status == 0 || status == 1, "{checks}");
    for fine in
        ["credentials", "stack", "clock", "open records", "record table", "acceptance markers", "queues"]
    {
        assert!(checks.contains(&format!("✓ {fine}: ")), "{fine}: {checks}");
    }
    assert_eq!(run_custody(&["--stack-name", "nobody", "doctor"]).0, 1);
    assert_eq!(run_custody(&["trace", "urn:custody:request:7a012fc8-0000-0000-0000-a0fb82b8c270"]).0, 3);
}

#[tokio::test]
async fn an_auditor_and_a_stranger_send_nothing() {
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let auditor = Principal::add(&["--auditor"]);
    let denied = send(&stack, &auditor.api_key, "loans", None).await;
    assert_eq!(problem(&denied), (403, "forbidden".to_owned()));
    let unknown = send(&stack, "not-a-key-of-this-api-at-all", "loans", None).await;
    assert_eq!(problem(&unknown), (403, "api-key".to_owned()));
}

#[tokio::test]
async fn two_keys_of_a_producer_are_valid_during_a_rotation_and_none_after_revocation() {
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let first = Principal::add(&["--source", "loans"]);
    let other = Principal::add(&["--source", "loans"]);
    let sent = receipt(&send(&stack, &first.api_key, "loans", Some("one")).await);
    let new_key = api_key(&["--json", "producer", "rotate", &first.name, "--overlap", "1h"]);
    assert_ne!(new_key, first.api_key);
    for key in [&new_key, &first.api_key] {
        let again = send(&stack, key, "loans", Some("one")).await;
        assert_eq!(receipt(&again).message_id, sent.message_id, "the same producer, and the same record");
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    let others = receipt(&send(&stack, &other.api_key, "loans", Some("one")).await);
    assert_ne!(others.message_id, sent.message_id, "the idempotency keys of two producers never meet");

    let (status, listed) = run_custody(&["--json", "producer", "list"]);
    assert_eq!(status, 0);
    let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
    let own: Vec<_> = listed.iter().filter(|line| line["principal"] == first.name.as_str()).collect();
    assert_eq!((own.len(), own.iter().filter(|line| line["expiresAt"].is_string()).count()), (2, 1));
    assert!(!listed.iter().any(|line| line.to_string().contains(&new_key)), "no list has the value of a key");

    let (status, changed) =
        run_custody(&["--json", "producer", "set-sources", &other.name, "--source", "cards-*"]);
    assert!(status == 0 && changed.contains("cards-*"), "{changed}");
    let (status, revoked) = run_custody(&["--json", "producer", "revoke", &first.name]);
    let revoked: Value = serde_json::from_str(&revoked).unwrap();
    assert_eq!((status, &revoked["revokedCredentials"]), (0, &2.into()), "{revoked}");
    for key in [&new_key, &first.api_key] {
        assert_eq!(send(&stack, key, "loans", None).await.status, 403);
    }
    assert_eq!(run_custody(&["producer", "revoke", &first.name]).0, 4, "there is no such producer any more");
}

#[tokio::test]
async fn a_key_that_was_rotated_away_stops_to_be_valid() {
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let producer = Principal::add(&["--source", "loans"]);
    let new_key = api_key(&["--json", "producer", "rotate", &producer.name, "--overlap", "0s"]);
    stack
        .eventually("the key before the rotation is refused", async || {
            (send(&stack, &producer.api_key, "loans", None).await.status == 403).then_some(())
        })
        .await;
    receipt(&send(&stack, &new_key, "loans", None).await);
}

#[tokio::test]
async fn while_the_tables_are_away_a_known_producer_goes_on_and_a_new_one_is_asked_to_wait() {
    let _alone = alone().await;
    let mut stack = Stack::under_test().await;
    let known = Principal::add(&["--source", "loans"]);
    let unknown = Principal::add(&["--source", "loans"]);
    // Requests one after the other are answered by the same process, which remembers the producer.
    receipt(&send(&stack, &known.api_key, "loans", None).await);
    stack.sender = stack.sender.clone().impatient();
    let away = UnavailableService::new("dynamodb-away");
    let sent = receipt(&send(&stack, &known.api_key, "loans", None).await);
    let refused = send(&stack, &unknown.api_key, "loans", None).await;
    assert_eq!(problem(&refused), (503, "access-unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), "5");
    drop(away);
    let id = sent.message_id;
    stack.reconcile_until(&format!("record {id} is closed"), async || !stack.is_open(id).await).await;
    stack
        .eventually("the new producer is accepted", async || {
            (send(&stack, &unknown.api_key, "loans", None).await.status == 200).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_request_may_ask_for_the_archive_and_not_for_more_than_there_is() {
    // Another test of this file makes the tables unavailable.
    let _alone = alone().await;
    let stack = Stack::under_test().await;
    let body = json!({
        "messageMetaData": {"messageType": "test", "sourceSystemID": "loans", "dateTime": "2026-11-20T22:21:00Z"},
        "messagePayload": {"score": 0.93},
    })
    .to_string();
    let post = async |durability: &str| {
        let headers = [("content-type", "application/json"), ("custody-durability", durability)];
        stack.sender.post(&headers, body.clone()).await.unwrap()
    };
    let archived = receipt(&post("archived").await);
    assert_eq!(archived.durability.to_string(), "archived");
    stack.follow(archived.message_id).await.unwrap();
    // On a busy machine, a slow answer of the cache sends a payload to the archive.
    let is_replicated = async || {
        let durability = receipt(&post("replicated").await).durability;
        assert!([Durability::Replicated, Durability::Archived].contains(&durability), "{durability}");
        (durability == Durability::Replicated).then_some(())
    };
    stack.eventually("the cache takes the payload", is_replicated).await;
    assert_eq!(problem(&post("durable").await), (422, "durability-not-offered".to_owned()));
    assert_eq!(problem(&post("sealed").await), (400, "invalid-header".to_owned()));
}
