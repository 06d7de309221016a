//! The events: what API Gateway and Step Functions would deliver.

use custody_core::message::{InternalMessage, RedisReference};
use custody_test_support::samples;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::json;

/// The sizes of ingest events, and what they are called.
pub const EVENT_SIZES: [(usize, &str); 5] = [
    (4 * KIB, "4 KB"),
    (256 * KIB, "256 KB"),
    (1024 * KIB, "1 MB"),
    (3 * 1024 * KIB, "3 MB"),
    (6 * 1024 * KIB, "6 MB"),
];
const KIB: usize = 1024;

/// The payload sizes that ingest makes of [`EVENT_SIZES`]: three quarters, because base64 is four thirds.
pub const PAYLOAD_SIZES: [(usize, &str); 5] = [
    (3 * KIB, "3 KB"),
    (192 * KIB, "192 KB"),
    (768 * KIB, "768 KB"),
    (2304 * KIB, "2.3 MB"),
    (4608 * KIB, "4.7 MB"),
];

/// An event and the size of its payload.
#[derive(Clone, Debug)]
pub struct Event {
    /// The JSON text.
    pub text: Vec<u8>,
    /// The payload's size, as the event carries it.
    pub payload_bytes: usize,
    /// Its size as it is kept.
    pub decoded_bytes: usize,
}

/// A proxy event of exactly `size` bytes, with a payload in base64, as producers of images send it, and perhaps with an
/// idempotency key.
pub fn ingest_event(size: usize, key: Option<&str>) -> Event {
    let frame = proxy_event("", "", key);
    let room = size.saturating_sub(frame.len());
    let decoded = payload(room / 4 * 3);
    let payload = base64_simd::STANDARD.encode_to_string(&decoded);
    let text = proxy_event(&payload, &"x".repeat(room % 4), key);
    Event { text: text.into_bytes(), payload_bytes: payload.len(), decoded_bytes: decoded.len() }
}

fn proxy_event(payload: &str, padding: &str, key: Option<&str>) -> String {
    let body = json!({
        "messageMetaData": {
            "messageType": "imageB64",
            "sourceSystemID": "bench",
            "sourceTransactionID": "6f1c2a34-9f0e-4a0b-8c57-2f3f0a1f7c11",
            "dateTime": "2026-11-20T22:21:00Z",
            "note": padding,
        },
        "messagePayload": payload,
    });
    json!({
        "resource": "/ingestMessage",
        "path": "/ingestMessage",
        "httpMethod": "POST",
        "headers": {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "Host": "abcdefghij.execute-api.us-east-1.amazonaws.com",
            "User-Agent": "bench/1.0",
            "X-Amzn-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
            "X-Forwarded-For": "192.0.2.10",
            "X-Forwarded-Port": "443",
            "X-Forwarded-Proto": "https",
        },
        "multiValueHeaders": {"Accept": ["*/*"], "Content-Type": ["application/json"]},
        "queryStringParameters": null,
        "pathParameters": null,
        "stageVariables": null,
        "requestContext": {
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "stage": "Prod",
            "path": "/Prod/ingestMessage",
            "requestTimeEpoch": 1_795_213_260_000_u64,
            "identity": {"sourceIp": "192.0.2.10", "userAgent": "bench/1.0", "apiKeyId": "k1e2y3i4d5"},
        },
        "body": body.to_string(),
        "isBase64Encoded": false,
    })
    .to_string()
}

/// A record in the cache, for the archive stage.
#[derive(Clone, Debug)]
pub struct CachedRecord {
    /// The stage's event.
    pub event: Event,
    /// The key of the payload in the cache.
    pub key: String,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A record with a payload of `size` bytes.
pub fn cached_record(size: usize) -> CachedRecord {
    let payload = payload(size);
    let mut message: InternalMessage = samples::message(&payload);
    let id = message.message_id;
    let key = id.cache_key();
    message.storage_context.redis_reference =
        Some(RedisReference { server: "localhost".to_owned(), port: 6379, key: key.clone() });
    let event = Event { text: message.to_json().into_bytes(), payload_bytes: size, decoded_bytes: size };
    CachedRecord { event, key, payload }
}

/// What the workflow hands to aggregate.
pub fn aggregate_event() -> Event {
    let text = include_bytes!("../../../events/aggregate/valid.json");
    Event { text: text.to_vec(), payload_bytes: 0, decoded_bytes: 0 }
}

/// Bytes as an image's: they repeat nothing.
fn payload(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    SmallRng::seed_from_u64(4).fill(&mut bytes[..]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_size_that_is_asked_for() {
        for (size, name) in EVENT_SIZES {
            let event = ingest_event(size, None);
            assert_eq!(event.text.len(), size, "{name}");
            assert!(event.payload_bytes < size && event.payload_bytes + 2048 > size);
        }
    }
}
