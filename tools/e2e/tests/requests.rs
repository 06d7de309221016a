//! Tests requests that the real API rejects: each is answered with a problem that explains what to do, and is stored.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{collections::BTreeMap, fs, path::Path};

use custody_core::MAX_EVENT_BYTES;
use custody_e2e::Stack;
use custody_test_client::{sender::Answer, verify};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

fn assert_problem(answer: &Answer, status: u16, slug: &str, context: &str) {
    assert_eq!(answer.status, status, "{context}: {}", answer.body);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{context}");
    assert_eq!(answer.header("access-control-allow-origin"), "*", "{context}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:custody:problem:{slug}"), "{context}: {problem}");
    assert_eq!(problem["status"], status, "{context}: {problem}");
    assert!(
        problem["title"].is_string() && problem["detail"].as_str().is_some_and(|d| d.len() > 20),
        "{context}: {problem}"
    );
}

/// Returns what is stored of a rejected request: its message on the queue of rejected requests, and the object to which
/// the message points.
async fn kept(stack: &Stack, answer: &Answer, context: &str) -> (Value, String) {
    let problem = answer.json();
    let request_id = problem["instance"]
        .as_str()
        .unwrap_or_default()
        .trim_start_matches("urn:custody:request:")
        .to_owned();
    let dead_letter = stack
        .rejected_request(|dead_letter| dead_letter["request"]["requestId"] == request_id)
        .await
        .expect(context);
    let body = &dead_letter["body"];
    assert_eq!(body["messageID"], Value::Null, "{context}");
    assert_eq!(body["stage"], "ingest", "{context}");
    assert_eq!(body["reason"], problem["detail"], "{context}: the operator reads what the producer was told");
    for attribute in ["stage", "kind", "errorName", "attempt"] {
        assert!(dead_letter["attributes"][attribute].is_string(), "{context}: attribute {attribute}");
    }
    let reference = &body["payloadReference"];
    let (bucket, key) = (reference["bucket"].as_str().unwrap(), reference["key"].as_str().unwrap());
    assert_eq!(bucket, stack.deployment.output("FailedBucket").unwrap(), "{context}");
    assert!(key.starts_with("rejected/"), "{context}: {key} does not expire");
    let kept = verify::object(&stack.deployment, bucket, key).await.expect(context);
    (body.clone(), String::from_utf8(kept).expect(context))
}

#[tokio::test]
async fn every_malformed_request_is_answered_with_a_problem_and_stored() {
    let stack = Stack::under_test().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("events");
    let expected: BTreeMap<String, Value> =
        serde_json::from_str(&fs::read_to_string(folder.join("ingest.expected.json")).unwrap()).unwrap();
    let mut rejected = 0;
    for (name, expected) in expected.iter().filter(|(_, expected)| expected["status"] != 200) {
        let event: Value =
            serde_json::from_str(&fs::read_to_string(folder.join(format!("ingest/{name}.json"))).unwrap())
                .unwrap();
        let body = event["body"].as_str().unwrap_or_default().to_owned();
        let sent = event["headers"].as_object().unwrap().iter().filter(|(name, _)| *name != "x-api-key");
        let headers: Vec<_> = sent.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        let answer = stack.sender.post(&headers, body.clone()).await.unwrap();
        let status = u16::try_from(expected["status"].as_u64().unwrap()).unwrap();
        assert_problem(&answer, status, expected["problem"].as_str().unwrap(), name);

        let (dead_letter, content) = kept(&stack, &answer, name).await;
        assert_eq!(dead_letter["kind"], "Invalid", "{name}");
        let content: Value = serde_json::from_str(&content).unwrap();
        assert_eq!(content["body"].as_str().unwrap_or_default(), body, "{name}: the request is recoverable");
        rejected += 1;
    }
    assert!(rejected > 25, "only {rejected} malformed requests were tried");
}

#[tokio::test]
async fn bytes_that_are_not_utf8_are_rejected_and_not_altered() {
    let stack = Stack::under_test().await;
    let body = b"{\"messageMetaData\":{\"messageType\":\"t\",\"sourceSystemID\":\"s\",\"dateTime\":\"2026-07-03 16:21:12\"},\
        \"messagePayload\":\"caf\xe9\"}";
    let answer = stack.sender.post(&[("content-type", "application/json")], body.to_vec()).await.unwrap();
    assert_problem(&answer, 400, "malformed-request", "latin-1");
    kept(&stack, &answer, "latin-1").await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_rejected_and_kept_in_whole() {
    let stack = Stack::under_test().await;
    let body = format!(
        r#"{{"messageMetaData":{{"messageType":"t","sourceSystemID":"s","dateTime":"2026-07-03 16:21:12"}},"messagePayload":"{}"}}"#,
        "x".repeat(MAX_EVENT_BYTES)
    );
    let answer = stack.sender.post(&[("content-type", "application/json")], body).await.unwrap();
    assert_problem(&answer, 413, "too-large", "over the limit");
    assert!(answer.json()["detail"].as_str().unwrap().contains(&MAX_EVENT_BYTES.to_string()));
    let (_, content) = kept(&stack, &answer, "over the limit").await;
    assert!(content.len() > MAX_EVENT_BYTES, "{} bytes are stored", content.len());
}

#[tokio::test]
async fn many_malformed_requests_send_no_dead_letter() {
    let stack = Stack::under_test().await;
    let posts = (0..200).map(|n| stack.sender.post(&[], format!("nonsense {n}")));
    // The emulator runs at most 96 functions at once, for all tests together.
    let answers: Vec<_> = stream::iter(posts).buffer_unordered(40).collect().await;
    let rejected: Vec<_> =
        answers.into_iter().map(Result::unwrap).filter(|answer| answer.status == 400).collect();
    assert!(rejected.len() > 100, "only {} requests came through", rejected.len());
    kept(&stack, rejected.last().unwrap(), "the last of many").await;
    let requests = stack.count_dead_letters(|dead_letter| dead_letter["errorName"] == "MalformedRequest");
    assert_eq!(requests, 0, "a rejected request is no dead letter");
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_403() {
    let stack = Stack::under_test().await;
    for key in ["", "wrong-key-wrong-key-wrong"] {
        let answer = stack
            .sender
            .post(&[("x-api-key", key), ("content-type", "application/json")], "{}")
            .await
            .unwrap();
        assert_problem(&answer, 403, "api-key", key);
    }
}

#[tokio::test]
async fn no_rejected_payload_is_logged() {
    let stack = Stack::under_test().await;
    let marker = "payload-that-must-not-be-logged-4711";
    let body = format!(r#"{{"messageMetaData":{{"messageType":"t"}},"messagePayload":"{marker}"}}"#);
    let answer = stack.sender.post(&[("content-type", "application/json")], body).await.unwrap();
    assert_problem(&answer, 422, "invalid-metadata", "without fields");
    kept(&stack, &answer, "without fields").await;
    // The whole body is encoded twice, so it is one value that the parser does not expect.
    let twice = Value::from(format!(r#"{{"messagePayload":"{marker}"}}"#)).to_string();
    let answer = stack.sender.post(&[("content-type", "application/json")], twice).await.unwrap();
    assert_problem(&answer, 400, "malformed-request", "encoded twice");
    assert!(!answer.body.contains(marker));
    let (dead_letter, _) = kept(&stack, &answer, "encoded twice").await;
    assert!(!dead_letter.to_string().contains(marker));

    // Waits until the lines about this request are in the logs. Only then does a missing text prove that it was not
    // logged.
    let request_id =
        answer.json()["instance"].as_str().unwrap().trim_start_matches("urn:custody:request:").to_owned();
    stack.logged(&request_id, |log| log.iter().any(|line| line.contains("rejected request"))).await;
    let found = custody_e2e::run_support_script("logs_containing.py", &[marker], "").unwrap();
    assert_eq!(found.trim(), "", "the payload is in a log");
}

#[tokio::test]
async fn a_browser_may_ask_before_it_posts() {
    let stack = Stack::under_test().await;
    for link in ["messages", "messages/x", "messages/x/payload", "uploads", "uploads/x", "uploads/x/complete"]
    {
        let answer = stack.sender.preflight(link).await.unwrap();
        assert_eq!(answer.status, 200, "{link}: {}", answer.body);
        assert_eq!(answer.header("access-control-allow-methods"), "OPTIONS,GET,POST", "{link}");
    }
    let answer = stack.sender.preflight("ingestMessage").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-methods"), "OPTIONS,GET,POST");
    let allowed = answer.header("access-control-allow-headers").to_ascii_lowercase();
    let allowed: Vec<_> = allowed.split(',').collect();
    for header in
        ["content-type", "x-api-key", "idempotency-key", "content-digest", "custody-durability", "ce-id"]
    {
        assert!(allowed.contains(&header), "{header}: {allowed:?}");
    }
}
