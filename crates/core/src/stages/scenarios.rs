//! Helpers of the stage tests: requests, and records in every state.

use bytes::Bytes;
use serde_json::json;

use crate::{
    clock::Clock as _,
    dead_letter::StageFailure,
    failed_record::FailedRecord,
    message::InternalMessage,
    open_record::OpenRecord,
    ports::{OpenRecords as _, PayloadCache as _},
    proxy::ProxyResponse,
    receipt::{Durability, Receipt},
    testing::{
        samples,
        world::{FIRST_LOOK, World},
    },
};

/// A payload.
pub(crate) const PAYLOAD: &[u8] = b"hello, custody";

/// A request with this payload, note and idempotency key.
pub(crate) fn request(payload: &str, note: &str, key: Option<&str>) -> Bytes {
    let body = json!({
        "messageMetaData": {
            "messageType": "sample",
            "sourceSystemID": "tests",
            "dateTime": "2026-11-20T22:20:59Z",
            "note": note,
        },
        "messagePayload": payload,
        "payloadEncoding": "utf8",
    });
    let event = json!({
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json", "Idempotency-Key": key},
        "requestContext": {"requestId": "r-1", "identity": {"apiKeyId": "k-1"}},
        "body": body.to_string(),
    });
    Bytes::from(event.to_string())
}

/// The receipt in an answer.
pub(crate) fn receipt(answer: &ProxyResponse) -> Receipt {
    assert_eq!(answer.status_code, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The `type` of the problem in an answer, without its prefix.
pub(crate) fn problem(answer: &ProxyResponse) -> String {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["type"].as_str().unwrap().trim_start_matches("urn:custody:problem:").to_owned()
}

/// A record that was accepted: cached, open, and not looked at yet.
pub(crate) async fn accepted(world: &World) -> OpenRecord {
    let now = world.clock.now();
    let mut message = samples::message_of(world.clock.mint(), PAYLOAD);
    message.storage_context.redis_reference = Some(world.cache.reference(message.message_id));
    world.cache.put(message.message_id, PAYLOAD.into()).await.unwrap();
    let record = OpenRecord::begin(message, Durability::Replicated, None, now, now.after(FIRST_LOOK));
    world.open_records.accept(&record, None).await.unwrap();
    record
}

/// A failure of a stage, as the workflow hands it over.
pub(crate) fn failure(message: &InternalMessage, stage: &str, error_name: &str) -> FailedRecord {
    FailedRecord {
        message: message.clone(),
        archive: None,
        metadata: None,
        failures: vec![StageFailure {
            stage: stage.to_owned(),
            error_name: error_name.to_owned(),
            cause: "because".to_owned(),
            tries: 1,
        }],
        execution_arn: None,
    }
}
