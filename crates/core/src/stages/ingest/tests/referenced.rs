//! Tests of payloads that are sent by reference.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    digest::Sha256,
    record_id::RecordId,
    stages::upload::NewUpload,
    testing::samples,
    upload::{AnnouncedPayload, MAX_UPLOAD_BYTES, PayloadReference},
};

const URI: &str = "s3://scans/2026/picture.png";
const PICTURE: &[u8] = b"\x89PNG a picture";

fn event(reference: &Value, key: Option<&str>) -> Bytes {
    let body = json!({
        "messageMetaData": {"messageType": "t", "sourceSystemID": "s", "dateTime": "2026-01-31T09:30:00Z"},
        "payloadReference": reference,
    });
    let mut headers = json!({"content-type": "application/json"});
    if let Some(key) = key {
        headers["Idempotency-Key"] = key.into();
    }
    let context = json!({"requestId": "r-1", "identity": {"apiKeyId": "caller"}});
    json!({"headers": headers, "body": body.to_string(), "requestContext": context}).to_string().into()
}

async fn send(world: &World, reference: &Value, key: Option<&str>) -> (u16, Value) {
    let ingest = world.ingest();
    let answer = ingest.run(event(reference, key)).await;
    ingest.follow_up(answer.follow_up).await;
    (answer.response.status_code, serde_json::from_str(&answer.response.body).unwrap())
}

fn slug((status, answer): &(u16, Value)) -> (u16, &str) {
    (*status, answer["type"].as_str().unwrap_or_default().trim_start_matches("urn:custody:problem:"))
}

fn with_picture() -> World {
    let world = World::default();
    world.staging.set_source(URI, Some(PICTURE));
    world
}

#[tokio::test]
async fn an_object_that_is_sent_by_reference_becomes_a_record_like_any_other() {
    let world = with_picture();
    let digest = Sha256::of(PICTURE);
    let (status, receipt) = send(&world, &json!({"uri": URI, "sha256": digest}), None).await;
    assert_eq!((status, &receipt["durability"]), (200, &json!("archived")), "{receipt}");
    assert_eq!(
        receipt["payload"],
        json!({"sha256": digest, "size": PICTURE.len(), "contentType": "image/png", "encoding": "binary"})
    );
    let id: RecordId = receipt["messageID"].as_str().unwrap().parse().unwrap();
    assert_eq!(receipt["links"]["self"], format!("messages/{id}"));
    assert_eq!(world.archive.content(&id.archive_key()).unwrap(), PICTURE);
    assert_eq!(world.workflow.names(), [format!("{id}-1-1")]);
    assert!(world.cache.records().is_empty() && world.staging.staged().is_empty());
}

#[tokio::test]
async fn the_same_key_gives_the_same_record_also_after_the_object_has_changed() {
    let world = with_picture();
    let first = send(&world, &json!({"uri": URI}), Some("key")).await;
    assert_eq!(first.0, 200, "{}", first.1);
    world.staging.set_source(URI, Some(b"changed"));
    assert_eq!(send(&world, &json!({"uri": URI}), Some("key")).await, first);
    world.staging.remove_source(URI);
    assert_eq!(send(&world, &json!({"uri": URI}), Some("key")).await, first, "the object is gone");
    world.staging.set_source(URI, Some(b"changed"));
    let other = send(&world, &json!({"uri": URI, "sha256": Sha256::of(b"changed")}), Some("key")).await;
    assert_eq!(slug(&other), (409, "idempotency-conflict"), "another digest is another record");
    assert_eq!((world.archive.objects().len(), world.open_records.all().len()), (1, 1));
}

#[tokio::test]
async fn a_reference_that_has_failed_can_be_sent_again_under_its_key() {
    let world = with_picture();
    let wrong = send(&world, &json!({"uri": URI, "sha256": Sha256::of(b"other")}), Some("key")).await;
    assert_eq!(slug(&wrong), (422, "digest-mismatch"));
    let (status, receipt) =
        send(&world, &json!({"uri": URI, "sha256": Sha256::of(PICTURE)}), Some("key")).await;
    assert_eq!(status, 200, "{receipt}");
}

#[tokio::test]
async fn a_producer_sends_only_its_own_objects_by_reference() {
    let world = with_picture();
    let (credential, entry) =
        (crate::access::Credential::ApiKey("caller".to_owned()), samples::producer("caller", &["*"]));
    for references in [vec![], vec!["s3://scans/2025/*".parse().unwrap()]] {
        world.access.set(&credential, &crate::access::AccessEntry { references, ..entry.clone() });
        assert_eq!(slug(&send(&world, &json!({"uri": URI}), None).await), (403, "forbidden"));
    }
    assert!(world.staging.staged().is_empty() && world.open_records.all().is_empty());
}

#[tokio::test]
async fn every_unusable_object_has_its_clear_end() {
    let world = with_picture();
    world.staging.set_source("s3://scans/secret", None);
    world.staging.set_source("s3://scans/empty", Some(b""));
    let other_digest = Sha256::of(b"other");
    for (reference, expected) in [
        (json!({"uri": "s3://elsewhere/a"}), (403, "forbidden")),
        (json!({"uri": "s3://scans/missing"}), (422, "reference-not-found")),
        (json!({"uri": "s3://scans/secret"}), (422, "reference-unreadable")),
        (json!({"uri": "s3://scans/empty"}), (400, "missing-payload")),
        (json!({"uri": URI, "sha256": other_digest}), (422, "digest-mismatch")),
    ] {
        let answer = send(&world, &reference, None).await;
        assert_eq!(slug(&answer), expected, "{reference}: {}", answer.1);
    }
    assert!(world.archive.objects().is_empty() && world.open_records.all().is_empty());
    assert_eq!(world.rejected_requests.all().len(), 4);
}

#[tokio::test]
async fn an_object_of_more_than_5_gb_is_too_large() {
    let world = with_picture();
    assert_eq!(MAX_UPLOAD_BYTES, 5_368_709_120);
    world.staging.report_size(URI, MAX_UPLOAD_BYTES + 1);
    assert_eq!(slug(&send(&world, &json!({"uri": URI}), None).await), (413, "too-large"));
    world.staging.report_size(URI, MAX_UPLOAD_BYTES);
    let copied = send(&world, &json!({"uri": URI}), None).await;
    assert_eq!(slug(&copied), (422, "digest-mismatch"), "the copy has another size than was reported");
    assert!(world.archive.objects().is_empty() && world.staging.staged().is_empty());
}

#[tokio::test]
async fn an_object_that_changes_or_vanishes_before_it_is_copied_is_not_accepted() {
    for change in [Some(&b"changed"[..]), None] {
        let world = with_picture();
        let transfers = world.transfers();
        let source = transfers.inspect(&PayloadReference::to(URI.parse().unwrap())).await.unwrap();
        match change {
            Some(content) => world.staging.set_source(URI, Some(content)),
            None => world.staging.remove_source(URI),
        }
        let payload = AnnouncedPayload {
            sha256: None,
            size_bytes: source.size_bytes,
            content_type: "image/png".to_owned(),
        };
        let message = samples::message(b"");
        let new = NewUpload {
            metadata: message.metadata,
            payload,
            source: Some(source),
            key: None,
            sender: message.security_context,
        };
        let (upload, _) = transfers.begin(new).await.unwrap();
        let problem = transfers.complete(&upload).await.unwrap_err();
        assert_eq!((problem.kind.slug(), problem.kind.status()), ("reference-changed", 409));
        assert!(world.archive.objects().is_empty() && world.open_records.all().is_empty());
    }
}

#[tokio::test]
async fn a_copy_that_does_not_end_in_time_is_completed_as_an_upload() {
    let world = with_picture();
    world.archive.fail_with(Some(ErrorName::ArchiveUnavailable));
    let (status, begun) = send(&world, &json!({"uri": URI}), Some("key")).await;
    assert_eq!(
        (status, &begun["type"]),
        (503, &json!("urn:custody:problem:reference-not-copied")),
        "{begun}"
    );
    assert!(world.open_records.all().is_empty(), "nothing is promised");
    world.archive.fail_with(None);
    let (again, receipt) = send(&world, &json!({"uri": URI}), Some("key")).await;
    assert_eq!(again, 200, "{receipt}");
    assert!(begun["detail"].as_str().unwrap().contains(receipt["messageID"].as_str().unwrap()), "{begun}");
    assert_eq!((world.archive.objects().len(), world.open_records.all().len()), (1, 1));
}
