//! Tests of the query stage: who learns what about which record, in every state of the record.

mod access_log;
mod lists;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    access::{Credential, Role},
    dead_letter::FailureSummary,
    error::ErrorName,
    message::{InternalMessage, S3Reference},
    metadata::MessageMetadata,
    open_record::{OpenRecord, OpenState},
    ports::{AcceptanceMarkers as _, CompletionTimes, OpenRecords as _, RecordTable as _},
    testing::{
        contract::failure_of,
        samples,
        world::{InMemory, World},
    },
};

/// A world with the producers `loans` and `cards`, and the auditor `audit`. The API key of each has its name.
fn world() -> World {
    let world = World::default();
    let loans = samples::producer("loans", &["loans", "shared"]);
    let auditor = AccessEntry { principal: "audit".to_owned(), role: Role::Auditor, ..loans.clone() };
    for entry in [loans, samples::producer("cards", &["cards", "shared"]), auditor] {
        let credential = Credential::ApiKey(entry.principal.clone());
        world.access.set(&credential, &entry);
    }
    world
}

fn message_of(world: &World, source: &str) -> InternalMessage {
    let text = format!(
        r#"{{"messageType":"t","sourceSystemID":"{source}","sourceTransactionID":"tx","dateTime":"2026-11-20T22:20:59Z"}}"#
    );
    let metadata = MessageMetadata::parse(&text, 0).unwrap();
    InternalMessage { metadata, ..samples::message_of(world.clock.mint(), b"payload") }
}

/// A record of this source that was accepted a moment ago: only its open record exists.
async fn accepted(world: &World, source: &str) -> InternalMessage {
    let message = message_of(world, source);
    world.open_records.accept(&samples::open_record(&message), None).await.unwrap();
    message
}

/// A record of this source that is completed and closed.
async fn completed(world: &World, source: &str) -> InternalMessage {
    let mut message = message_of(world, source);
    let now = world.clock.now();
    world.record_table.put_received(&message, now).await.unwrap();
    message.storage_context.s3_reference =
        Some(S3Reference { bucket: "archive".to_owned(), key: message.message_id.archive_key() });
    let times = CompletionTimes { archived_at: now, completed_at: now.after(Duration::from_secs(1)) };
    world.record_table.complete(&message, times).await.unwrap();
    message
}

/// Marks an accepted record as failed, in its open record and in its item.
async fn fail(world: &World, message: &InternalMessage, failure: &FailureSummary) {
    world.record_table.fail(message, failure).await.unwrap();
    let state = OpenState::Failed { failure: failure.clone(), pending_steps: Vec::new() };
    world.open_records.fail(&OpenRecord { state, ..samples::open_record(message) }).await.unwrap();
}

fn event(caller: &str, resource: &str, id: &str, parameters: &Value, accept: &str) -> Bytes {
    let event = json!({
        "httpMethod": "GET",
        "resource": resource,
        "pathParameters": {"messageID": id},
        "queryStringParameters": parameters,
        "headers": {"ACCEPT": accept},
        "requestContext": {"requestId": "r-1", "identity": {"apiKeyId": caller, "sourceIp": "192.0.2.1"}},
    });
    Bytes::from(event.to_string())
}

async fn ask(query: &Query<InMemory>, event: Bytes) -> (u16, Value) {
    let answer = query.run(&event).await;
    assert!(!answer.headers.contains_key("Content-Length"));
    (answer.status_code, serde_json::from_str(&answer.body).unwrap_or_default())
}

async fn show(world: &World, caller: &str, id: RecordId) -> (u16, Value) {
    ask(&world.query(), event(caller, "/messages/{messageID}", &id.to_string(), &Value::Null, "*/*")).await
}

fn payload_event(caller: &str, id: RecordId, accept: &str) -> Bytes {
    event(caller, "/messages/{messageID}/payload", &id.to_string(), &Value::Null, accept)
}

async fn payload_link(world: &World, caller: &str, id: RecordId) -> (u16, Value) {
    ask(&world.query(), payload_event(caller, id, "text/html, application/json;q=0.9")).await
}

async fn list(world: &World, caller: &str, parameters: Value) -> (u16, Value) {
    ask(&world.query(), event(caller, "/messages", "", &parameters, "*/*")).await
}

fn problem(body: &Value) -> &str {
    body["type"].as_str().unwrap_or_default().trim_start_matches("urn:custody:problem:")
}

#[tokio::test]
async fn a_record_is_found_at_once_after_its_receipt_whichever_store_has_the_acceptance() {
    let world = world();
    let message = accepted(&world, "loans").await;
    let marked = message_of(&world, "loans");
    world.markers.mark(&samples::open_record(&marked)).await.unwrap();
    for id in [message.message_id, marked.message_id] {
        let (status, body) = show(&world, "loans", id).await;
        assert_eq!((status, &body["status"]), (200, &"RECEIVED".into()), "{body}");
        assert_eq!(body["messageID"], id.to_string());
        assert_eq!(body["payload"]["sha256"], message.payload.sha256.to_string());
        assert_eq!(
            (&body["attempt"], &body["messageMetaData"]["sourceSystemID"]),
            (&1.into(), &"loans".into())
        );
        assert_eq!(body["links"]["payload"], format!("{id}/payload"));
        let fields: Vec<_> = body["messageMetaData"].as_object().unwrap().keys().collect();
        assert!(fields.is_sorted(), "the order in which DynamoDB returns fields is no order: {fields:?}");
    }
}

#[tokio::test]
async fn a_completed_record_has_its_times_and_its_place() {
    let world = world();
    let id = completed(&world, "loans").await.message_id;
    let (_, body) = show(&world, "loans", id).await;
    assert_eq!(body["status"], "COMPLETED");
    for stage in ["accepted", "metadataStored", "archived", "completed"] {
        assert!(body["stages"][stage].is_string(), "{stage}: {body}");
    }
    assert!(body["stages"]["failed"].is_null() && body["failure"].is_null() && body["discarded"].is_null());
    assert_eq!(body["S3Reference"]["key"], id.archive_key());
}

#[tokio::test]
async fn a_failed_record_reports_its_failure_until_another_attempt_is_in_progress() {
    let world = world();
    let message = accepted(&world, "loans").await;
    let id = message.message_id;
    let failure = failure_of(&message);
    fail(&world, &message, &failure).await;
    let (_, body) = show(&world, "loans", id).await;
    assert_eq!((&body["status"], &body["failure"]["errorName"]), (&"FAILED".into(), &"AccessDenied".into()));
    assert!(!body.to_string().contains("arn:aws:states"), "operators' details are not for producers: {body}");

    let next = message.redriven(&failure, world.clock.now());
    world.open_records.redrive(&samples::open_record(&next)).await.unwrap();
    let (_, body) = show(&world, "loans", id).await;
    assert_eq!((&body["status"], &body["attempt"]), (&"RECEIVED".into(), &2.into()));
    assert!(body["failure"].is_null() && body["stages"]["failed"].is_null(), "{body}");
    assert_eq!(body["earlierFailures"][0]["errorName"], "AccessDenied");
    assert!(!body.to_string().contains("arn:aws:states"), "operators' details are not for producers: {body}");

    world.record_table.put_received(&next, world.clock.now()).await.unwrap();
    let times = CompletionTimes { archived_at: world.clock.now(), completed_at: world.clock.now() };
    world.record_table.complete(&next, times).await.unwrap();
    world.open_records.close(next.attempt()).await.unwrap();
    let (_, body) = show(&world, "loans", id).await;
    assert_eq!((&body["status"], &body["attempt"]), (&"COMPLETED".into(), &2.into()), "{body}");
    assert_eq!(body["earlierFailures"][0]["attempt"], 1, "also after it is closed: {body}");
}

#[tokio::test]
async fn a_discarded_record_reports_the_decision() {
    let world = world();
    let message = accepted(&world, "loans").await;
    fail(&world, &message, &failure_of(&message)).await;
    let discard =
        crate::ports::Discard { by: "ops".to_owned(), at: world.clock.now(), reason: "withdrawn".to_owned() };
    world.record_table.discard(message.attempt(), &discard).await.unwrap();
    world.open_records.close(message.attempt()).await.unwrap();
    let (_, body) = show(&world, "loans", message.message_id).await;
    assert_eq!((&body["status"], &body["discarded"]["reason"]), (&"FAILED".into(), &"withdrawn".into()));

    // A person insists on another attempt, which fails: the decision was about the attempt before.
    let next = message.redriven(&failure_of(&message), world.clock.now());
    world.open_records.accept(&samples::open_record(&next), None).await.unwrap();
    let (_, body) = show(&world, "loans", message.message_id).await;
    assert!(body["discarded"].is_null() && body["status"] == "RECEIVED", "{body}");
    fail(&world, &next, &failure_of(&next)).await;
    let (_, body) = show(&world, "loans", message.message_id).await;
    assert!(body["discarded"].is_null() && body["status"] == "FAILED", "{body}");
}

#[tokio::test]
async fn a_record_of_another_producer_looks_like_one_that_does_not_exist() {
    let world = world();
    let id = completed(&world, "loans").await.message_id;
    let unknown = world.clock.mint();
    for caller in ["cards", "loans", "audit"] {
        let (status, body) = show(&world, caller, unknown).await;
        assert_eq!((status, problem(&body)), (404, "unknown-record"), "{caller}");
        assert_eq!(payload_link(&world, caller, unknown).await.0, 404, "{caller}");
    }
    let (of_forbidden, of_unknown) = (show(&world, "cards", id).await, show(&world, "cards", unknown).await);
    let text = |(_, body): &(u16, Value), id: RecordId| body.to_string().replace(&id.to_string(), "ID");
    assert_eq!(text(&of_forbidden, id), text(&of_unknown, unknown));
    assert_eq!(payload_link(&world, "cards", id).await.0, 404);
    for caller in ["loans", "audit"] {
        assert_eq!((show(&world, caller, id).await.0, payload_link(&world, caller, id).await.0), (200, 200));
    }
    for resource in ["/messages", "/messages/{messageID}", "/messages/{messageID}/payload"] {
        let (status, body) =
            ask(&world.query(), event("nobody", resource, "not an id", &Value::Null, "*/*")).await;
        assert_eq!((status, problem(&body)), (403, "forbidden"), "a stranger learns nothing: {body}");
    }
}

#[tokio::test]
async fn an_archived_payload_is_linked_by_redirection_or_as_json() {
    let world = world();
    let message = completed(&world, "loans").await;
    let id = message.message_id;
    let (status, body) = payload_link(&world, "loans", id).await;
    assert_eq!((status, &body["sha256"]), (200, &message.payload.sha256.to_string().into()));
    assert_eq!(body["url"], format!("memory://archive/{}?{id}", id.archive_key()));
    assert_eq!((&body["size"], &body["contentType"]), (&7.into(), &"application/octet-stream".into()));
    for accept in ["*/*", "text/html", "application/jsonx"] {
        let answer = world.query().run(&payload_event("loans", id, accept)).await;
        assert_eq!((answer.status_code, &*answer.body), (303, ""));
        assert!(answer.headers["Location"].starts_with("memory://archive/"));
        assert_eq!(
            answer.headers["Repr-Digest"],
            format!("sha-256=:{}:", message.payload.sha256.to_base64())
        );
        assert_eq!(answer.headers["Cache-Control"], "no-store");
    }
}

#[tokio::test]
async fn a_payload_that_is_not_archived_has_a_clear_end() {
    let world = world();
    let message = accepted(&world, "loans").await;
    let id = message.message_id;
    let (status, body) = payload_link(&world, "loans", id).await;
    assert_eq!((status, problem(&body)), (409, "payload-not-archived"));

    let failure = failure_of(&message);
    fail(&world, &message, &failure).await;
    let (status, body) = payload_link(&world, "loans", id).await;
    assert_eq!(status, 200, "a preserved payload can be read: {body}");
    assert_eq!(body["url"], format!("memory://failed/{}?{id}", id.preserved_key()));

    let lost = accepted(&world, "loans").await;
    fail(&world, &lost, &FailureSummary { payload_reference: None, ..failure }).await;
    let (status, body) = payload_link(&world, "loans", lost.message_id).await;
    assert_eq!((status, problem(&body)), (410, "payload-lost"));

    let archived_by_ingest = {
        let mut message = message_of(&world, "loans");
        let key = message.message_id.archive_key();
        message.storage_context.s3_reference = Some(S3Reference { bucket: "archive".to_owned(), key });
        world.open_records.accept(&samples::open_record(&message), None).await.unwrap();
        message.message_id
    };
    assert_eq!(payload_link(&world, "loans", archived_by_ingest).await.0, 200, "before it is completed");
}

#[tokio::test]
async fn a_store_that_is_away_is_a_503_and_never_a_404() {
    type Fail = fn(&World, Option<ErrorName>);
    let world = world();
    let id = completed(&world, "loans").await.message_id;
    let faults: [(Fail, ErrorName); 3] = [
        (|world, name| world.markers.fail_with(name), ErrorName::MarkersUnavailable),
        (|world, name| world.open_records.fail_with(name), ErrorName::TableUnavailable),
        (|world, name| world.record_table.fail_with(name), ErrorName::TableUnavailable),
    ];
    for (fail, name) in faults {
        fail(&world, Some(name));
        let (status, body) = show(&world, "loans", id).await;
        assert_eq!((status, problem(&body)), (503, "lookup-unavailable"), "{name:?}");
        assert_eq!(show(&world, "cards", id).await.0, 503);
        fail(&world, None);
    }
    assert_eq!(show(&world, "loans", id).await.0, 200);
}
