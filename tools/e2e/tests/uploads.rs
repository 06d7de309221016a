//! Tests of uploads and of payloads by reference on the real API: S3 receives and copies the payloads, the record is accepted when
//! the archive has them, and nothing else is ever stored.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::collections::BTreeMap;

use custody_core::{digest::Sha256, record_id::RecordId};
use custody_e2e::{Principal, Stack, reference_bucket, run_custody};
use custody_test_client::{sender::Answer, verify};
use serde_json::{Value, json};

/// Bytes that are not text.
fn content(size: usize) -> Vec<u8> {
    [&b"\x89PNG\r\n\x1a\n"[..], &(0..=255).cycle().take(size - 8).collect::<Vec<u8>>()].concat()
}

fn source(name: &str) -> String {
    format!("uploads-{name}-{}", std::process::id())
}

fn announcement(source: &str, payload: &[u8]) -> Value {
    json!({
        "messageMetaData": {"messageType": "scan", "sourceSystemID": source, "dateTime": "2026-11-20T22:21:00Z"},
        "payload": {"size": payload.len(), "sha256": Sha256::of(payload), "contentType": "image/png"},
    })
}

async fn post(stack: &Stack, principal: &Principal, link: &str, key: Option<&str>, body: &str) -> Answer {
    let mut headers = vec![("x-api-key", principal.api_key.as_str()), ("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    stack.sender.post_to(link, &headers, body.to_owned()).await.unwrap()
}

async fn begin(stack: &Stack, principal: &Principal, body: &Value, key: Option<&str>) -> Value {
    let answer = post(stack, principal, "uploads", key, &body.to_string()).await;
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.body);
    answer.json()
}

async fn complete(stack: &Stack, principal: &Principal, id: &str) -> Answer {
    post(stack, principal, &format!("uploads/{id}/complete"), None, "").await
}

async fn show(stack: &Stack, principal: &Principal, id: &str) -> Answer {
    stack.sender.get(&format!("uploads/{id}"), &[("x-api-key", &principal.api_key)]).await.unwrap()
}

/// The URL and the headers of an upload's link.
fn link(begun: &Value) -> (String, BTreeMap<String, String>) {
    let headers = serde_json::from_value(begun["upload"]["headers"].clone()).unwrap();
    (begun["upload"]["url"].as_str().unwrap().to_owned(), headers)
}

async fn put(stack: &Stack, (url, headers): &(String, BTreeMap<String, String>), payload: Vec<u8>) -> u16 {
    // The client itself states the length of the body.
    let headers = headers.iter().filter(|(name, _)| *name != "content-length");
    let headers = headers.map(|(name, value)| (name.as_str(), value.as_str()));
    stack.sender.upload(url, headers, payload).await.unwrap().status
}

fn problem(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.body);
    (answer.status, kind.trim_start_matches("urn:custody:problem:").to_owned())
}

/// Checks that the record with this id completes, and that its producer and an auditor get these bytes back.
async fn check_record(stack: &Stack, producer: &Principal, id: &str, payload: &[u8]) {
    let record: RecordId = id.parse().unwrap();
    stack.follow(record).await.unwrap();
    let auditor = Principal::add(&["--auditor"]);
    for reader in [producer, &auditor] {
        let headers = [("x-api-key", reader.api_key.as_str()), ("accept", "application/json")];
        let link = stack.sender.get(&format!("messages/{id}/payload"), &headers).await.unwrap();
        assert_eq!(link.status, 200, "{}", link.body);
        let (answer, read) = stack.sender.download(link.json()["url"].as_str().unwrap()).await.unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/png"));
        assert!(read == payload, "the exact bytes");
    }
}

async fn staged(stack: &Stack) -> Vec<String> {
    let bucket = stack.deployment.output("StagingBucket").unwrap();
    let listed = stack.deployment.aws.s3().list_objects_v2().bucket(bucket).send().await.unwrap();
    listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
}

#[tokio::test]
async fn an_upload_is_accepted_when_it_is_completed_and_its_bytes_come_back() {
    let stack = Stack::under_test().await;
    let producer = Principal::add(&["--source", &source("one")]);
    let payload = content(9_000_000);
    let begun = begin(&stack, &producer, &announcement(&source("one"), &payload), None).await;
    let id = begun["messageID"].as_str().unwrap().to_owned();
    assert_eq!(begun["status"], "PENDING");
    assert_eq!(problem(&complete(&stack, &producer, &id).await), (409, "upload-incomplete".to_owned()));
    assert_eq!(put(&stack, &link(&begun), payload.clone()).await, 200);
    assert_eq!(show(&stack, &producer, &id).await.json()["status"], "UPLOADED");
    let headers = [("x-api-key", producer.api_key.as_str())];
    let unknown = stack.sender.get(&format!("messages/{id}"), &headers).await.unwrap();
    assert_eq!(problem(&unknown), (404, "unknown-record".to_owned()), "nothing is accepted yet");

    let completed = complete(&stack, &producer, &id).await;
    assert_eq!(completed.status, 200, "{}", completed.body);
    let receipt = completed.json();
    assert_eq!((&receipt["messageID"], &receipt["durability"]), (&json!(id), &json!("archived")));
    assert_eq!(receipt["payload"]["sha256"], Sha256::of(&payload).to_string());
    let link = format!("uploads/{id}/complete");
    let base = resolve(&link, receipt["links"]["self"].as_str().unwrap());
    let found = stack.sender.get(&base, &headers).await.unwrap();
    assert_eq!(found.status, 200, "the link of the receipt works at once: {base}: {}", found.body);

    let again = complete(&stack, &producer, &id).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, "true"));
    assert_eq!(again.json()["receivedAt"], receipt["receivedAt"]);
    check_record(&stack, &producer, &id, &payload).await;
    assert_eq!(show(&stack, &producer, &id).await.json()["status"], "ACCEPTED");
    assert!(!staged(&stack).await.iter().any(|key| key.contains(&id)), "the staged payload is removed");
    let item = verify::item(&stack.deployment, id.parse().unwrap()).await.unwrap();
    assert_eq!(item["messageSecurityContext"]["requestContext"]["principal"], producer.name.as_str());
}

/// Resolves a link that is relative to a path of the API.
fn resolve(path: &str, link: &str) -> String {
    let mut parts: Vec<_> = path.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => parts.truncate(parts.len().saturating_sub(1)),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[tokio::test]
async fn a_link_takes_exactly_the_announced_bytes_and_only_once() {
    let stack = Stack::under_test().await;
    let producer = Principal::add(&["--source", &source("links")]);
    let payload = content(5000);
    let body = announcement(&source("links"), &payload);
    let begun = begin(&stack, &producer, &body, None).await;
    let (url, headers) = link(&begun);
    let altered = content(5001)[1..].to_vec();
    assert!(altered.len() == payload.len() && altered != payload);
    for wrong in [altered, payload[..4999].to_vec(), [&payload[..], b"x"].concat(), Vec::new()] {
        let length = wrong.len();
        let status = put(&stack, &(url.clone(), headers.clone()), wrong).await;
        assert!((400..500).contains(&status), "{length} bytes: {status}");
    }
    for (name, value) in
        [("x-amz-checksum-sha256", Sha256::of(b"x").to_base64()), ("content-type", "text/html".to_owned())]
    {
        let mut other = headers.clone();
        other.insert(name.to_owned(), value);
        assert_eq!(put(&stack, &(url.clone(), other), payload.clone()).await, 403, "{name}");
    }
    let mut missing = headers.clone();
    missing.remove("if-none-match");
    assert_eq!(put(&stack, &(url.clone(), missing), payload.clone()).await, 403);
    let elsewhere = url.replacen("/uploads/", "/uploads/x", 1);
    assert_eq!(put(&stack, &(elsewhere, headers.clone()), payload.clone()).await, 403);
    let id = begun["messageID"].as_str().unwrap();
    assert_eq!(show(&stack, &producer, id).await.json()["status"], "PENDING", "nothing of it was stored");

    assert_eq!(put(&stack, &(url.clone(), headers.clone()), payload.clone()).await, 200);
    assert_eq!(put(&stack, &(url, headers), payload.clone()).await, 412, "a link stores one object");
    assert_eq!(complete(&stack, &producer, id).await.status, 200);
    check_record(&stack, &producer, id, &payload).await;
}

#[tokio::test]
async fn two_uploads_under_one_key_are_one_record_and_nobody_else_sees_them() {
    let stack = Stack::under_test().await;
    let (own, others) = (source("keys"), source("others"));
    let producer = Principal::add(&["--source", &own]);
    let other = Principal::add(&["--source", &own, "--source", &others]);
    let auditor = Principal::add(&["--auditor"]);
    let payload = content(3000);
    let body = announcement(&own, &payload);
    let begun = begin(&stack, &producer, &body, Some("one key")).await;
    let again = begin(&stack, &producer, &body, Some("one key")).await;
    assert_eq!(begun["messageID"], again["messageID"]);
    let conflict =
        post(&stack, &producer, "uploads", Some("one key"), &announcement(&own, b"other").to_string()).await;
    assert_eq!(problem(&conflict), (409, "idempotency-conflict".to_owned()));
    let foreign = begin(&stack, &other, &body, Some("one key")).await;
    assert_ne!(foreign["messageID"], begun["messageID"], "a key belongs to its principal");

    let id = begun["messageID"].as_str().unwrap();
    assert_eq!(put(&stack, &link(&again), payload.clone()).await, 200);
    for stranger in [&other, &auditor] {
        let expected =
            if stranger.name == auditor.name { (403, "forbidden") } else { (404, "unknown-upload") };
        let expected = (expected.0, expected.1.to_owned());
        assert_eq!(problem(&show(&stack, stranger, id).await), expected);
        assert_eq!(problem(&complete(&stack, stranger, id).await), expected);
    }
    let denied = post(&stack, &producer, "uploads", None, &announcement(&others, &payload).to_string()).await;
    assert_eq!(problem(&denied), (403, "forbidden".to_owned()));

    let (one, two) = tokio::join!(complete(&stack, &producer, id), complete(&stack, &producer, id));
    assert_eq!((one.status, two.status), (200, 200), "{} {}", one.body, two.body);
    assert_eq!(one.json(), two.json());
    check_record(&stack, &producer, id, &payload).await;
    // The same record under the same key in one request is a repetition too.
    let headers = [
        ("x-api-key", producer.api_key.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "one key"),
    ];
    let sent = json!({"messageMetaData": body["messageMetaData"], "messagePayload": {"other": "payload"}});
    let answer = stack.sender.post(&headers, sent.to_string()).await.unwrap();
    assert_eq!(problem(&answer), (409, "idempotency-conflict".to_owned()));
    // Both denials are in the access log: of the upload, and of the source.
    for (text, who) in [(id, &other.name), (&others, &producer.name)] {
        stack
            .logged(text, |log| log.iter().any(|line| line.contains("denied access") && line.contains(who)))
            .await;
    }
}

#[tokio::test]
async fn an_object_is_copied_by_reference_and_every_unusable_one_has_its_clear_end() {
    let stack = Stack::under_test().await;
    let own = source("references");
    let pattern = format!("s3://{}/{own}/*", reference_bucket());
    let producer =
        Principal::add(&["--source", &own, "--reference", &pattern, "--reference", "s3://another-bucket/*"]);
    let other = Principal::add(&["--source", &own]);
    let payload = content(7_000_000);
    let key = format!("{own}/a b ü.png");
    stack.set_reference_source(&key, Some(payload.clone())).await;
    let envelope = |reference: Value| {
        json!({
            "messageMetaData": {"messageType": "scan", "sourceSystemID": own, "dateTime": "2026-11-20T22:21:00Z"},
            "payloadReference": reference,
        })
        .to_string()
    };
    let uri = format!("s3://{}/{key}", reference_bucket());
    let sent = envelope(json!({"uri": uri, "sha256": Sha256::of(&payload)}));
    let answer = post(&stack, &producer, "ingestMessage", Some("reference"), &sent).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let receipt = answer.json();
    assert_eq!(receipt["payload"]["sha256"], Sha256::of(&payload).to_string());
    check_record(&stack, &producer, receipt["messageID"].as_str().unwrap(), &payload).await;
    let again = post(&stack, &producer, "ingestMessage", Some("reference"), &sent).await;
    assert_eq!(again.json()["messageID"], receipt["messageID"]);

    let denied = post(&stack, &other, "ingestMessage", None, &sent).await;
    assert_eq!(problem(&denied), (403, "forbidden".to_owned()), "an object of another producer");

    // A CloudEvent without data, in binary mode.
    let headers = [
        ("x-api-key", producer.api_key.as_str()),
        ("ce-specversion", "1.0"),
        ("ce-type", "scan"),
        ("ce-source", own.as_str()),
        ("ce-id", "1"),
        ("ce-time", "2026-11-20T22:21:00Z"),
        ("ce-dataref", &*format!("s3://{}/{own}/a%20b%20%C3%BC.png", reference_bucket())),
    ];
    let answer = stack.sender.post(&headers, "").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);

    for (reference, expected) in [
        (json!({"uri": "s3://another-bucket/a"}), (422, "reference-not-allowed")),
        (json!({"uri": format!("{uri}.missing")}), (422, "reference-unreadable")),
        (json!({"uri": uri, "sha256": Sha256::of(b"other")}), (422, "digest-mismatch")),
        (json!({"uri": "https://example.com/a"}), (400, "malformed-request")),
    ] {
        let answer = post(&stack, &producer, "ingestMessage", None, &envelope(reference.clone())).await;
        let expected = (expected.0, expected.1.to_owned());
        let found = problem(&answer);
        let is_missing =
            found == (422, "reference-not-found".to_owned()) && expected.1 == "reference-unreadable";
        assert!(found == expected || is_missing, "{reference}: {}", answer.body);
    }
    assert!(!staged(&stack).await.iter().any(|key| key.contains(receipt["messageID"].as_str().unwrap())));
}

#[tokio::test]
async fn a_wrong_request_about_uploads_is_a_problem_and_never_a_5xx() {
    let stack = Stack::under_test().await;
    let own = source("wrong");
    let producer = Principal::add(&["--source", &own]);
    let good = announcement(&own, b"payload");
    let mut no_digest = good.clone();
    no_digest["payload"].as_object_mut().unwrap().remove("sha256");
    let mut huge = good.clone();
    huge["payload"]["size"] = json!(5_368_709_121_u64);
    for (link, body, expected) in [
        ("uploads", String::new(), (400, "malformed-request")),
        ("uploads", "{".to_owned(), (400, "malformed-request")),
        ("uploads", no_digest.to_string(), (400, "malformed-request")),
        ("uploads", huge.to_string(), (413, "too-large")),
        ("uploads", good.to_string().replace("image/png", "png"), (422, "invalid-metadata")),
        ("uploads", good.to_string().replace("2026-11-20T22:21:00Z", "today"), (422, "invalid-metadata")),
        ("uploads/not-an-id/complete", String::new(), (400, "invalid-query")),
        ("uploads/019e1f4b-6c00-7abc-8def-0123456789ab/complete", String::new(), (404, "unknown-upload")),
    ] {
        let answer = post(&stack, &producer, link, None, &body).await;
        assert_eq!(problem(&answer), (expected.0, expected.1.to_owned()), "{link} {body}: {}", answer.body);
        stack.refusal_logged("upload", &answer).await;
    }
    let headers = [("x-api-key", producer.api_key.as_str()), ("content-type", "image/png")];
    let answer = stack.sender.post_to("uploads", &headers, content(100)).await.unwrap();
    assert_eq!(problem(&answer), (415, "unsupported-media-type".to_owned()));
    let answer =
        stack.sender.post_to("uploads", &[("x-api-key", "no-such-key")], good.to_string()).await.unwrap();
    assert_eq!(answer.status, 403, "{}", answer.body);
}

/// Runs the command-line tool with a principal's API key.
fn custody(stack: &Stack, principal: &Principal, arguments: &[&str]) -> (i32, Value) {
    let url = stack.deployment.output("IngestUrl").unwrap();
    let api = ["--json", "--url", url, "--api-key", &principal.api_key];
    let (status, printed) = run_custody(&[arguments, &api].concat());
    (status, serde_json::from_str(&printed).unwrap_or_default())
}

#[tokio::test]
async fn the_command_line_tool_sends_lists_and_reads_back_files_of_every_size() {
    let stack = Stack::under_test().await;
    let own = source("cli");
    let producer = Principal::add(&["--source", &own]);
    let other = Principal::add(&["--source", "another"]);
    let auditor = Principal::add(&["--auditor"]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for (name, size, content_type) in [
        ("small.png", 2000, "image/png"),
        ("medium.docx", 5_000_000, WORD),
        ("large.bin", 200_000_000, OCTETS),
    ] {
        let file = path(name);
        std::fs::write(&file, content(size)).unwrap();
        let arguments = ["send", &file, "--type", "scan", "--source", &own, "--meta", "case=17"];
        let (status, sent) = custody(&stack, &producer, &arguments);
        assert_eq!(status, 0, "{name}: {sent}");
        let receipt = &sent[0]["receipt"];
        assert_eq!(receipt["payload"]["contentType"], content_type);
        assert_eq!(receipt["payload"]["sha256"], Sha256::of(&content(size)).to_string());
        let id = receipt["messageID"].as_str().unwrap();
        let (_, again) = custody(&stack, &producer, &arguments);
        assert_eq!((&again[0]["receipt"]["messageID"], &again[0]["replayed"]), (&json!(id), &json!(true)));
        stack.follow(id.parse().unwrap()).await.unwrap();

        for reader in [&producer, &auditor] {
            let copy = path(&format!("{name}.{}", reader.name));
            let (status, got) = custody(&stack, reader, &["get", id, "-o", &copy]);
            assert_eq!((status, &got["contentType"]), (0, &json!(content_type)), "{got}");
            assert!(std::fs::read(&copy).unwrap() == content(size), "{name}");
        }
        assert_eq!(custody(&stack, &other, &["get", id, "-o", &path("stolen")]).0, 3);
        assert!(!folder.path().join("stolen").exists());
    }
    let (status, listed) = custody(&stack, &producer, &["list", "--source", &own, "--since", "1h"]);
    assert_eq!((status, listed["records"].as_array().unwrap().len()), (0, 3), "{listed}");
    assert_eq!(listed["records"][0]["sourceTransactionID"], "large.bin");
    assert_eq!(custody(&stack, &other, &["list", "--source", &own]).0, 4);
    let empty = path("empty");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(custody(&stack, &producer, &["send", &empty, "--type", "t", "--source", &own]).0, 4);
}

const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const OCTETS: &str = "application/octet-stream";
