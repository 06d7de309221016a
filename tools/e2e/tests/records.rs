//! Tests valid records from the request to the archive, with the real binaries and the real template.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use custody_core::{digest::Sha256, receipt::Receipt, record_id::RecordId};
use custody_e2e::Stack;
use custody_test_client::{
    records::{Kind, Record, Size},
    sender::Answer,
    verify,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use yaml_rust2::YamlLoader;

/// Sends a record, follows it to its end, and compares everything that was stored with what was sent.
async fn check(stack: &Stack, record: &Record) -> RecordId {
    let context = &record.label;
    let acknowledged = stack.sender.send(record).await.expect(context);
    let id = acknowledged.receipt.message_id;
    let arrivals = stack.follow(id).await.expect(context);
    verify::check_completed(&stack.deployment, record, &acknowledged.receipt, &arrivals)
        .await
        .expect(context);
    assert_eq!(stack.execution(id).await.expect(context).0, "SUCCEEDED", "{context}");
    id
}

async fn check_every_kind(size: Size) {
    let stack = Stack::under_test().await;
    for kind in [Kind::Random, Kind::Text, Kind::Json] {
        check(&stack, &Record::generate(kind, size, 42)).await;
    }
}

#[tokio::test]
async fn records_of_4_kb_arrive_unaltered() {
    check_every_kind(Size::Bytes(4 << 10)).await;
}

#[tokio::test]
async fn records_of_256_kb_arrive_unaltered() {
    check_every_kind(Size::Bytes(256 << 10)).await;
}

#[tokio::test]
async fn records_of_1_mb_arrive_unaltered() {
    check_every_kind(Size::Bytes(1 << 20)).await;
}

#[tokio::test]
async fn records_of_3_mb_arrive_unaltered() {
    check_every_kind(Size::Bytes(3 << 20)).await;
}

#[tokio::test]
async fn the_largest_records_that_fit_one_event_arrive_unaltered() {
    check_every_kind(Size::Largest).await;
}

#[expect(clippy::disallowed_methods, reason = "the environment names a file for one test")]
fn reference_message() -> Option<PathBuf> {
    std::env::var("CUSTODY_REFERENCE_MESSAGE").ok().map(PathBuf::from)
}

#[tokio::test]
async fn a_message_of_an_existing_producer_is_accepted_unchanged() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let own: PathBuf = workspace.join("test_client/samples/image-b64.json");
    let stack = Stack::under_test().await;
    check(&stack, &Record::from_file(&own).unwrap()).await;

    // A request body of a real producer may be given, which is no part of this project. The note goes directly to standard
    // error, because the test harness would capture printed text.
    let note = match reference_message() {
        Some(reference) => {
            check(&stack, &Record::from_file(&reference).unwrap()).await;
            format!("sent {} beside the project's own sample", reference.display())
        }
        None => "sent the project's own sample; CUSTODY_REFERENCE_MESSAGE may name a further request body"
            .to_owned(),
    };
    writeln!(std::io::stderr(), "{note}").unwrap();
}

#[tokio::test]
async fn a_receipt_has_everything_that_existing_clients_read() {
    let stack = Stack::under_test().await;
    let record = Record::generate(Kind::Json, Size::Bytes(5_000), 3);
    // On a busy machine, a slow answer of the cache sends a payload to the archive.
    let by_the_cache = async || {
        let answer =
            stack.sender.post(&[("content-type", "application/json")], record.body.clone()).await.unwrap();
        (answer.json()["durability"] != "archived").then_some(answer)
    };
    let answer = stack.eventually("the cache takes the payload", by_the_cache).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-methods"), "OPTIONS,POST");
    assert_eq!(answer.header("access-control-allow-headers"), "Content-Type");
    assert_eq!(answer.header("content-type"), "application/json");
    let body = answer.json();
    let id: RecordId = body["messageID"].as_str().unwrap().parse().unwrap();
    assert_eq!(body["receivedAt"], id.received_at().to_string());
    assert_eq!(
        body["payload"],
        json!({"sha256": record.sha256().to_string(), "size": record.payload.len(), "contentType": "application/json",
            "encoding": "json"})
    );
    assert!(["durable", "replicated"].contains(&body["durability"].as_str().unwrap()), "{body}");
    assert_eq!(body["links"]["self"], format!("messages/{id}"));
    stack.follow(id).await.unwrap();

    let item = verify::item(&stack.deployment, id).await.unwrap();
    let caller = &item["messageSecurityContext"]["requestContext"];
    assert_eq!(caller["principal"], "local");
    for known in ["apiKeyId", "sourceIp", "requestId", "requestTime", "stage", "path"] {
        assert!(caller[known].as_str().is_some_and(|text| !text.is_empty()), "{known} in {caller}");
    }
}

#[tokio::test]
async fn a_cloud_event_in_structured_mode_is_a_record() {
    let stack = Stack::under_test().await;
    let body = json!({
        "specversion": "1.0", "type": "decision.made", "source": "/risk/eu", "id": "e-1",
        "time": "2026-11-20T22:21:00Z", "datacontenttype": "image/png", "tenant": "acme",
        "data_base64": "iVBORw0KGgo=",
    });
    let headers = [("content-type", "application/cloudevents+json")];
    let answer = stack.sender.post(&headers, body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let receipt: Receipt = serde_json::from_str(&answer.body).unwrap();
    check_stored(&stack, &receipt, b"\x89PNG\r\n\x1a\n", "image/png", "tenant").await;
}

#[tokio::test]
async fn a_cloud_event_in_binary_mode_is_a_record_of_its_body() {
    let stack = Stack::under_test().await;
    // Contains every byte value, because no step may treat the payload as text.
    let image: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let headers = [
        ("content-type", "image/png"),
        ("ce-specversion", "1.0"),
        ("ce-type", "decision.made"),
        ("ce-source", "/risk/eu"),
        ("ce-id", "e-2"),
        ("ce-time", "2026-11-20T22:21:00Z"),
        ("ce-tenant", "acme"),
    ];
    let answer = stack.sender.post(&headers, image.clone()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let receipt: Receipt = serde_json::from_str(&answer.body).unwrap();
    check_stored(&stack, &receipt, &image, "image/png", "tenant").await;
}

async fn check_stored(
    stack: &Stack,
    receipt: &Receipt,
    payload: &[u8],
    content_type: &str,
    kept_field: &str,
) {
    let id = receipt.message_id;
    stack.follow(id).await.unwrap();
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &id.archive_key()).await.unwrap(), payload);
    assert_eq!(receipt.payload.content_type, content_type);
    let item = verify::item(&stack.deployment, id).await.unwrap();
    assert_eq!(item["status"], "COMPLETED");
    assert_eq!(item["sourceSystemID"], "/risk/eu");
    assert_eq!(item["messageMetaData"][kept_field], "acme");
}

#[tokio::test]
async fn many_records_at_once_all_complete() {
    let stack = Stack::under_test().await;
    let mut acknowledged = Vec::new();
    for seed in 0..24 {
        let record = Record::generate(Kind::Random, Size::Bytes(20_000), 1000 + seed);
        let receipt = stack.sender.send(&record).await.unwrap().receipt;
        acknowledged.push((record, receipt));
    }
    for (record, receipt) in acknowledged {
        let arrivals = stack.follow(receipt.message_id).await.unwrap();
        verify::check_completed(&stack.deployment, &record, &receipt, &arrivals).await.unwrap();
    }
}

/// Sends a binary CloudEvent of this content type.
async fn send_event(stack: &Stack, content_type: &str, content: Vec<u8>) -> Answer {
    let headers = [
        ("content-type", content_type),
        ("ce-specversion", "1.0"),
        ("ce-type", "file"),
        ("ce-source", "/media-types"),
        ("ce-id", &*format!("{content_type} {}", content.len())),
        ("ce-time", "2026-11-20T22:21:00Z"),
    ];
    stack.sender.post(&headers, content).await.unwrap()
}

/// Returns the content types whose bodies API Gateway passes on as bytes.
fn binary_media_types() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("template.yaml");
    let template = YamlLoader::load_from_str(&std::fs::read_to_string(path).unwrap()).unwrap().remove(0);
    let listed = &template["Resources"]["IngestApi"]["Properties"]["BinaryMediaTypes"];
    listed.as_vec().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_file_of_every_binary_type_and_of_every_text_type_arrives_unaltered() {
    let stack = Stack::under_test().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let text = "\u{feff}<a>\u{fc}\u{1f600}\u{0}\r\n\u{85}</a>".repeat(50).into_bytes();
    let binary = binary_media_types();
    for (kind, name) in
        [("Word", "wordprocessingml.document"), ("Excel", "spreadsheetml.sheet"), ("HEIC", "image/heic")]
    {
        assert!(binary.iter().any(|listed| listed.ends_with(name)), "{kind}");
    }
    for name in ["application/vnd.apache.parquet", "application/cbor", "application/pdf", "application/zip"] {
        assert!(binary.iter().any(|listed| listed == name), "{name}");
    }
    let texts = [
        "text/csv",
        "text/html",
        "text/plain; charset=utf-8",
        "application/xml",
        "image/svg+xml",
        "application/x-ndjson",
        "application/json",
        "application/yaml",
        "message/rfc822",
    ];
    let files = binary.iter().map(|name| (name.as_str(), &bytes)).chain(texts.map(|name| (name, &text)));
    let stack = &stack;
    stream::iter(files)
        .for_each_concurrent(16, |(content_type, content)| async move {
            let answer = send_event(stack, content_type, content.clone()).await;
            assert_eq!(answer.status, 200, "{content_type}: {}", answer.body);
            let receipt: Receipt = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(receipt.payload.sha256, Sha256::of(content), "{content_type}");
            assert_eq!(receipt.payload.content_type, content_type);
        })
        .await;
    // API Gateway would alter a file of a type that is not listed.
    for content_type in ["application/x-unknown", "text/plain", "chemical/x-pdb"] {
        let answer = send_event(stack, content_type, bytes.clone()).await;
        assert_eq!(answer.status, 400, "{content_type}: {}", answer.body);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("POST /uploads") && detail.contains("application/octet-stream"), "{detail}");
    }
}

#[tokio::test]
async fn every_log_line_about_a_record_names_its_invocation_and_its_trace() {
    let stack = Stack::under_test().await;
    let record = Record::generate(Kind::Text, Size::Bytes(4 << 10), 7);
    // A sampled trace, as X-Ray marks it.
    let trace = format!("1-{:08x}-{:024x}", 0x6b0b_7bdf, std::process::id());
    let header = format!("Root={trace};Parent=53995c3f42cd8ad8;Sampled=1");
    let headers = [("content-type", "application/json"), ("x-amzn-trace-id", &*header)];
    let answer = stack.sender.post(&headers, record.body.clone()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let id = answer.json()["messageID"].as_str().unwrap().to_owned();
    stack.follow(id.parse().unwrap()).await.unwrap();

    let functions = ["\"stage\":\"ingest\"", "\"stage\":\"archive\""];
    let log = stack
        .logged(&id, |log| functions.iter().all(|function| log.iter().any(|line| line.contains(function))))
        .await;
    for line in log.iter().filter(|line| line.contains("\"record.id\"")) {
        let line: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        let (invocation, trace) = (&line["span"]["invocation.id"], &line["span"]["trace.id"]);
        assert!(invocation.as_str().is_some_and(|id| id.len() == 36), "{line}");
        assert!(trace.as_str().is_some_and(|trace| trace.starts_with("1-")), "{line}");
    }
    // Spans have the trace of ingest, as OpenTelemetry writes it. (The emulator does not pass the header on, and samples every trace.)
    let of_ingest = log.iter().find(|line| line.contains("\"stage\":\"ingest\"")).unwrap();
    let of_ingest: Value = serde_json::from_str(&of_ingest[of_ingest.find('{').unwrap()..]).unwrap();
    let of_spans = of_ingest["span"]["trace.id"].as_str().unwrap().trim_start_matches("1-").replace('-', "");
    stack.logged(&of_spans, |spans| spans.iter().any(|span| span.contains("resourceSpans"))).await;
}
