//! Tests of questions to the real API: a receipt's link works at once, payloads come back byte for byte, and nobody reads the
//! records of others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeSet;

use custody_core::{digest::Sha256, receipt::Receipt};
use custody_e2e::{Principal, Stack};
use custody_test_client::sender::Answer;
use serde_json::{Value, json};

/// The bytes of a PNG's head, and more bytes that are not text.
fn picture(size: usize) -> Vec<u8> {
    [&b"\x89PNG\r\n\x1a\n"[..], &(0..=255).cycle().take(size).collect::<Vec<u8>>()].concat()
}

/// Sends a picture as a binary CloudEvent of this source.
async fn send_picture(
    stack: &Stack,
    producer: &Principal,
    source: &str,
    id: &str,
    content: &[u8],
) -> Receipt {
    let headers = [
        ("x-api-key", producer.api_key.as_str()),
        ("content-type", "image/png"),
        ("ce-specversion", "1.0"),
        ("ce-type", "picture"),
        ("ce-source", source),
        ("ce-id", id),
        ("ce-time", "2026-11-20T22:21:00Z"),
    ];
    let answer = stack.sender.post(&headers, content.to_vec()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn get(stack: &Stack, principal: &Principal, link: &str) -> Answer {
    stack.sender.get(link, &[("x-api-key", &principal.api_key)]).await.unwrap()
}

async fn payload(stack: &Stack, principal: &Principal, link: &str) -> Answer {
    let headers = [("x-api-key", principal.api_key.as_str()), ("accept", "application/json")];
    stack.sender.get(link, &headers).await.unwrap()
}

fn problem(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
    (answer.status, kind.trim_start_matches("urn:custody:problem:").to_owned())
}

#[tokio::test]
async fn a_picture_is_sent_found_and_read_back_by_its_producer_and_by_an_auditor_only() {
    let stack = Stack::under_test().await;
    let (source, other_source) = (format!("pictures-{}", std::process::id()), "elsewhere");
    let producer = Principal::add(&["--source", &source]);
    let other = Principal::add(&["--source", other_source]);
    let auditor = Principal::add(&["--auditor"]);
    let content = picture(4_000_000);
    let receipt = send_picture(&stack, &producer, &source, "1", &content).await;
    let link = receipt.links.itself.clone();

    let found = get(&stack, &producer, &link).await;
    assert_eq!(found.status, 200, "the link of a receipt works at once: {}", found.body);
    stack.follow(receipt.message_id).await.unwrap();
    let completed = get(&stack, &producer, &link).await.json();
    assert_eq!(completed["status"], "COMPLETED");
    assert_eq!(completed["payload"]["sha256"], Sha256::of(&content).to_string());
    assert_eq!(completed["principal"], producer.name.as_str());
    // The links of a record are relative to its own URL.
    let payload_link = format!("messages/{}", completed["links"]["payload"].as_str().unwrap());

    for reader in [&producer, &auditor] {
        let answer = payload(&stack, reader, &payload_link).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let (download, read) = stack.sender.download(answer.json()["url"].as_str().unwrap()).await.unwrap();
        assert_eq!(download.status, 200);
        assert!(read == content, "the exact bytes");
        assert_eq!(download.header("content-type"), "image/png");
        assert_eq!(
            download.header("content-disposition"),
            format!("attachment; filename=\"{}\"", receipt.message_id)
        );
        let redirected = get(&stack, reader, &payload_link).await;
        assert_eq!(redirected.status, 303);
        assert_eq!(
            stack.sender.download(redirected.header("location")).await.unwrap().1.len(),
            content.len()
        );
        assert_eq!(
            redirected.header("repr-digest"),
            format!("sha-256=:{}:", Sha256::of(&content).to_base64())
        );
    }
    for link in [&link, &payload_link] {
        assert_eq!(problem(&get(&stack, &other, link).await), (404, "unknown-record".to_owned()));
    }
    let list = format!("messages?sourceSystemID={source}");
    assert_eq!(problem(&get(&stack, &other, &list).await), (403, "forbidden".to_owned()));
    let listed = get(&stack, &auditor, &list).await.json();
    assert_eq!(listed["records"][0]["messageID"], receipt.message_id.to_string());

    let is_read = |line: &&String| line.contains("granted access") && line.contains("read payload");
    let is_denial = |line: &String| line.contains("denied access") && line.contains(&other.name);
    // Every read of a payload, and the denial, are in the access log.
    let id = receipt.message_id.to_string();
    let log =
        stack.logged(&id, |log| log.iter().filter(is_read).count() >= 4 && log.iter().any(is_denial)).await;
    assert_eq!(log.iter().filter(is_read).count(), 4, "{log:?}");
}

#[tokio::test]
async fn a_list_has_each_record_once_and_its_cursor_belongs_to_its_reader() {
    let stack = Stack::under_test().await;
    let source = format!("lists-{}", std::process::id());
    let producer = Principal::add(&["--source", &source]);
    let auditor = Principal::add(&["--auditor"]);
    let mut sent = BTreeSet::new();
    for number in 0..7 {
        let receipt = send_picture(&stack, &producer, &source, &number.to_string(), b"small").await;
        stack.follow(receipt.message_id).await.unwrap();
        sent.insert(receipt.message_id.to_string());
    }
    let list = format!("messages?sourceSystemID={source}&limit=3&status=COMPLETED");
    let (mut seen, mut link, mut first_cursor) = (Vec::new(), list.clone(), None);
    loop {
        let page = get(&stack, &producer, &link).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        let records = page["records"].as_array().unwrap();
        assert!(records.len() <= 3);
        seen.extend(records.iter().map(|record| record["messageID"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        first_cursor.get_or_insert_with(|| cursor.to_owned());
        link = format!("{list}&cursor={cursor}");
    }
    assert!(seen.is_sorted_by(|newer, older| newer > older), "newest first: {seen:?}");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), sent);

    let cursor = first_cursor.unwrap();
    let altered = format!("{list}&cursor=A{}", &cursor[1..]);
    for (reader, link) in [(&producer, altered), (&auditor, format!("{list}&cursor={cursor}"))] {
        assert_eq!(problem(&get(&stack, reader, &link).await), (400, "invalid-query".to_owned()));
    }
}

#[tokio::test]
async fn wrong_questions_get_a_problem_and_never_a_5xx() {
    let stack = Stack::under_test().await;
    let auditor = Principal::add(&["--auditor"]);
    let unknown = "messages/019e1f4b-6c00-7abc-8def-0123456789ab";
    for (link, expected) in [
        (unknown.to_owned(), (404, "unknown-record")),
        (format!("{unknown}/payload"), (404, "unknown-record")),
        ("messages/not-an-id".to_owned(), (400, "invalid-query")),
        ("messages".to_owned(), (400, "invalid-query")),
        (format!("messages?sourceSystemID={}", "x".repeat(5_000)), (400, "invalid-query")),
        ("messages?sourceSystemID=a%00b".to_owned(), (400, "invalid-query")),
        ("messages?sourceSystemID=a&limit=1e9".to_owned(), (400, "invalid-query")),
    ] {
        let answer = get(&stack, &auditor, &link).await;
        let (status, kind) = problem(&answer);
        assert_eq!((status, kind.as_str()), expected, "{link}: {}", answer.body);
        stack.refusal_logged("query", &answer).await;
    }
    let decade = "messages?sourceSystemID=../../etc&from=2016-01-01T00:00:00Z&to=2026-01-01T00:00:00Z";
    let answer = get(&stack, &auditor, decade).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"records": []})));
    // A principal in a header is no principal.
    let smuggled = stack
        .sender
        .get(unknown, &[("x-api-key", "no-key-of-this-api-at-all"), ("x-amzn-principal", "audit")])
        .await
        .unwrap();
    assert_eq!(smuggled.status, 403);
    let posted: Value = stack.sender.post(&[("x-api-key", &auditor.api_key)], "{}").await.unwrap().json();
    assert_eq!(posted["status"], 403, "an auditor writes nothing, not even nonsense: {posted}");
}
