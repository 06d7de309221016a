//! Requests that are sent again, at the same time, after a crash, and with another payload.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use custody_core::{
    error::ErrorName,
    idempotency::{Claim, IdempotencyKey},
    ports::IdempotencyClaims as _,
    proxy::ProxyResponse,
    receipt::{Durability, Receipt},
    record_id::RecordId,
    stages::ingest::Ingest,
};
use custody_test_support::{
    doubles::{MemoryArchive, MemoryCache, MemoryMarkers, MemorySalvage, MemoryWorkflow},
    samples::{self, TestClock},
};
use serde_json::json;

#[derive(Default)]
struct World {
    cache: MemoryCache,
    archive: MemoryArchive,
    markers: MemoryMarkers,
    workflow: MemoryWorkflow,
    salvage: MemorySalvage,
    clock: TestClock,
}

impl World {
    async fn post(&self, key: &str, caller: &str, payload: &str) -> ProxyResponse {
        let body = json!({
            "messageMetaData": {"messageType": "t", "sourceSystemID": "s", "dateTime": "2026-11-20T22:21:00Z"},
            "messagePayload": payload,
        });
        self.send(json!({
            "headers": {"idempotency-key": key},
            "requestContext": {"requestId": "r-1", "identity": {"apiKeyId": caller}},
            "body": body.to_string(),
        }))
        .await
    }

    async fn send(&self, event: serde_json::Value) -> ProxyResponse {
        let stage = Ingest {
            cache: &self.cache,
            archive: &self.archive,
            markers: &self.markers,
            workflow: &self.workflow,
            salvage: &self.salvage,
            clock: &self.clock,
        };
        stage.run(event.to_string().as_bytes()).await
    }
}

fn receipt(answer: &ProxyResponse) -> Receipt {
    assert_eq!(answer.status_code, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

fn is_replay(answer: &ProxyResponse) -> bool {
    answer.headers.get("Idempotency-Replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_receipt_and_makes_no_second_record() {
    let world = World::default();
    let first = world.post("k-1", "a", "payload").await;
    world.clock.advance_ms(60_000);
    let second = world.post("k-1", "a", "payload").await;
    assert!(!is_replay(&first) && is_replay(&second));
    assert_eq!(first.body, second.body);
    assert_eq!(world.workflow.started().len(), 1);

    // Another caller's key of the same spelling is another key, and no key is none.
    let other = receipt(&world.post("k-1", "b", "payload").await).message_id;
    assert_ne!(other, receipt(&first).message_id);
    assert_eq!(world.workflow.started().len(), 2);
}

#[tokio::test]
async fn another_payload_under_the_same_key_is_a_conflict_that_names_the_record() {
    let world = World::default();
    let first = receipt(&world.post("k-1", "a", "payload").await);
    let answer = world.post("k-1", "a", "another").await;
    assert_eq!(answer.status_code, 409, "{}", answer.body);
    assert!(answer.body.contains("idempotency-conflict"));
    assert!(answer.body.contains(&first.message_id.to_string()), "{}", answer.body);
    assert_eq!(world.workflow.started().len(), 1);
}

#[tokio::test]
async fn a_crash_between_the_claim_and_the_record_does_not_block_the_retry() {
    let world = World::default();
    let key = IdempotencyKey::of_header("a", "k-1").unwrap();
    let crashed = samples::message(b"payload");
    (&world.cache).claim(&key, &Claim::new(crashed.message_id, &crashed.payload)).await.unwrap();
    let answer = world.post("k-1", "a", "payload").await;
    assert!(is_replay(&answer));
    assert_eq!(receipt(&answer).message_id, crashed.message_id);
    assert_eq!(world.workflow.started()[0].message_id, crashed.message_id);
    assert!(world.cache.is_pending(crashed.message_id), "the record is stored now");
}

#[tokio::test]
async fn keys_hold_while_the_cache_is_away() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let first = receipt(&world.post("k-1", "a", "payload").await);
    assert_eq!(first.durability, Durability::Archived);
    let second = world.post("k-1", "a", "payload").await;
    assert!(is_replay(&second));
    assert_eq!(receipt(&second).message_id, first.message_id);
    assert_eq!(world.archive.objects().len(), 1);
    assert_eq!(world.post("k-1", "a", "another").await.status_code, 409);
    // Without any store that tells keys apart, a second record could come of it.
    world.markers.fail_with(Some(ErrorName::PendingStoreUnavailable));
    assert_eq!(world.post("k-2", "a", "payload").await.status_code, 503);
}

#[tokio::test]
async fn a_request_from_a_time_without_cache_is_known_when_the_cache_is_back() {
    let world = World::default();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let first = receipt(&world.post("k-1", "a", "payload").await);
    world.cache.fail_with(None);
    for again in 0..3 {
        let answer = world.post("k-1", "a", "payload").await;
        assert!(is_replay(&answer), "{again}");
        assert_eq!(receipt(&answer).message_id, first.message_id, "{again}");
    }
    assert_eq!(world.workflow.started().len(), 1);
}

#[tokio::test]
async fn a_receipt_that_was_given_without_the_cache_is_the_one_that_is_repeated() {
    let world = World::default();
    // The first request was cached, and its producer got no answer.
    world.post("k-1", "a", "payload").await;
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let given = receipt(&world.post("k-1", "a", "payload").await).message_id;
    world.cache.fail_with(None);
    for again in 0..3 {
        let answer = world.post("k-1", "a", "payload").await;
        assert_eq!(receipt(&answer).message_id, given, "{again}");
    }
}

#[tokio::test]
async fn an_unusable_key_is_refused() {
    let world = World::default();
    for key in ["", " ", "\u{e4}"] {
        let answer = world.post(key, "a", "payload").await;
        assert_eq!(answer.status_code, 400, "{key:?}: {}", answer.body);
        assert!(answer.body.contains("Idempotency-Key"));
    }
}

#[tokio::test]
async fn a_cloud_event_is_its_own_key() {
    let event = |id: &str, data: &str| {
        json!({
            "headers": {"content-type": "application/cloudevents+json"},
            "requestContext": {"identity": {"apiKeyId": "a"}},
            "body": json!({"specversion": "1.0", "type": "t", "source": "/s", "id": id,
                "time": "2026-11-20T22:21:00Z", "data": data}).to_string(),
        })
    };
    let world = World::default();
    let ids: Vec<RecordId> = [
        receipt(&world.send(event("1", "x")).await).message_id,
        receipt(&world.send(event("1", "x")).await).message_id,
        receipt(&world.send(event("2", "x")).await).message_id,
    ]
    .into();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_eq!(world.send(event("1", "y")).await.status_code, 409);
}
