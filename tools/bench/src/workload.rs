//! Creates the events that API Gateway and Step Functions would deliver.

use custody_core::{
    digest::Sha256,
    message::{InternalMessage, RedisReference},
    testing::samples,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

/// The sizes of ingest events, and their names in reports.
pub const EVENT_SIZES: [(usize, &str); 5] = [
    (4 * KIB, "4 KB"),
    (256 * KIB, "256 KB"),
    (1024 * KIB, "1 MB"),
    (3 * 1024 * KIB, "3 MB"),
    (6 * 1024 * KIB, "6 MB"),
];
const KIB: usize = 1024;

/// The sizes of the payloads in events of [`EVENT_SIZES`], and their names in reports. A payload has three quarters of
/// the event's size, because base64 turns three bytes into four.
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
    /// The number of bytes that the baseline moves. By default, this is the size of the payload as the event carries
    /// it.
    pub payload_bytes: usize,
    /// The size of the decoded payload.
    pub decoded_bytes: usize,
}

impl Event {
    /// Returns a request of `size` bytes with a payload in base64, of which the baseline moves the decoded bytes.
    pub fn of_ingest(size: usize) -> Self {
        let event = ingest_event(size, Form::Base64);
        Self { payload_bytes: event.decoded_bytes, ..event }
    }
}

/// How a request carries its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The payload is in base64, as producers of images send it.
    Base64,
    /// The payload is in base64, and the request has an idempotency key that was never used before.
    Keyed,
    /// The payload is in base64, and `Content-Digest` has the digest of the body.
    ContentDigest,
    /// The payload is text in which nothing must be escaped.
    Text,
    /// The payload is text with quotation marks, and with a line break after every forty characters or so.
    EscapedText,
    /// The payload is a JSON value of many small parts.
    Json,
    /// The payload is the body of a `CloudEvent` in binary mode.
    BinaryCloudEvent,
}

impl Form {
    /// Returns the name of the form in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "ingest",
            Self::Keyed => "ingest, idempotency key",
            Self::ContentDigest => "ingest, Content-Digest",
            Self::Text => "ingest, text",
            Self::EscapedText => "ingest, text with escapes",
            Self::Json => "ingest, JSON payload",
            Self::BinaryCloudEvent => "ingest, binary CloudEvent",
        }
    }

    /// Returns a payload of about `size` bytes, and the text that represents it in a body: a JSON value, or base64.
    fn payload(self, size: usize) -> (Vec<u8>, String) {
        let repeated = |part: &str| part.repeat((size / part.len()).max(1));
        match self {
            Self::Base64 | Self::Keyed | Self::ContentDigest => {
                let bytes = payload(size);
                let text = format!("\"{}\"", base64_simd::STANDARD.encode_to_string(&bytes));
                (bytes, text)
            }
            Self::BinaryCloudEvent => {
                let bytes = payload(size);
                let text = base64_simd::STANDARD.encode_to_string(&bytes);
                (bytes, text)
            }
            Self::Text => {
                let text = repeated("one line of a long report, and the next. ");
                (text.clone().into_bytes(), json!(text).to_string())
            }
            Self::EscapedText => {
                let text = repeated("one \"line\" of a long report, and the next.\n");
                (text.clone().into_bytes(), json!(text).to_string())
            }
            Self::Json => {
                let text = format!("[{}0]", repeated("{\"name\":\"feature\",\"value\":0.125},"));
                (text.clone().into_bytes(), text)
            }
        }
    }
}

/// Returns a proxy event of about `size` bytes, with a payload in this form. With base64 the size is exact.
pub fn ingest_event(size: usize, form: Form) -> Event {
    let room = size.saturating_sub(proxy_event("", "", form).len());
    // The event contains the body as a JSON string, so the text of the body is escaped once more.
    let escaped = |payload_bytes: usize| {
        let (_, text) = form.payload(payload_bytes);
        json!(text).to_string().len()
    };
    let sample = room.clamp(KIB, 64 * KIB);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let payload_bytes = match form {
        Form::Text | Form::EscapedText | Form::Json => {
            (room as f64 * 0.99 / (escaped(sample) as f64 / sample as f64)) as usize
        }
        // The empty event already contains the escaped quotation marks around the payload.
        Form::Base64 | Form::Keyed | Form::ContentDigest | Form::BinaryCloudEvent => room / 4 * 3,
    };
    let (payload, in_body) = form.payload(payload_bytes);
    let padding = if matches!(form, Form::Base64 | Form::Keyed) { room % 4 } else { 0 };
    let text = proxy_event(&in_body, &"x".repeat(padding), form);
    Event {
        text: text.into_bytes(),
        payload_bytes: in_body.len().min(size / 4 * 3),
        decoded_bytes: payload.len(),
    }
}

fn proxy_event(payload: &str, padding: &str, form: Form) -> String {
    const TIME: &str = "2026-11-20T22:21:00Z";
    let is_binary = form == Form::BinaryCloudEvent;
    let body = if is_binary {
        payload.to_owned()
    } else {
        let metadata = json!({
            "messageType": "imageB64",
            "sourceSystemID": "bench",
            "sourceTransactionID": "6f1c2a34-9f0e-4a0b-8c57-2f3f0a1f7c11",
            "dateTime": TIME,
            "note": padding,
        });
        let payload = if payload.is_empty() { "\"\"" } else { payload };
        let encoding = match form {
            Form::Text | Form::EscapedText => "utf8",
            Form::Json => "json",
            _ => "base64",
        };
        format!(
            "{{\"messageMetaData\":{metadata},\"payloadEncoding\":\"{encoding}\",\"messagePayload\":{payload}}}"
        )
    };
    let content_type = if is_binary { "application/octet-stream" } else { "application/json" };
    let mut headers = json!({
        "Accept": "*/*",
        "Content-Type": content_type,
        "Host": "abcdefghij.execute-api.us-east-1.amazonaws.com",
        "User-Agent": "bench/1.0",
        "X-Amzn-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
        "X-Forwarded-For": "192.0.2.10",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    });
    match form {
        // The stub finds no claim for any key, so one key can be used for every record.
        Form::Keyed => headers["Idempotency-Key"] = json!("3f1c9a52"),
        Form::ContentDigest => {
            let digest = Sha256::of(body.as_bytes()).to_base64();
            headers["Content-Digest"] = json!(format!("sha-256=:{digest}:"));
        }
        Form::BinaryCloudEvent => {
            let attributes = [
                ("specversion", "1.0"),
                ("id", "7"),
                ("type", "sample"),
                ("source", "/bench"),
                ("time", TIME),
            ];
            for (name, value) in attributes {
                headers[format!("ce-{name}")] = json!(value);
            }
        }
        Form::Base64 | Form::Text | Form::EscapedText | Form::Json => {}
    }
    json!({
        "resource": "/ingestMessage",
        "path": "/ingestMessage",
        "httpMethod": "POST",
        "headers": headers,
        "multiValueHeaders": {"Accept": ["*/*"], "Content-Type": [content_type]},
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
        "body": body,
        "isBase64Encoded": is_binary,
    })
    .to_string()
}

/// A record in the cache, for the archive stage.
#[derive(Clone, Debug)]
pub struct CachedRecord {
    /// The event of the archive stage.
    pub event: Event,
    /// The key of the payload in the cache.
    pub key: String,
    /// The payload in the cache.
    pub payload: Vec<u8>,
}

/// Returns a record with a payload of `size` bytes.
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

/// Returns the event of a question for one record.
pub fn query_event() -> Event {
    let id = "019e1f4b-6c00-7abc-8def-0123456789ab";
    question("/messages/{messageID}", &json!({ "messageID": id }), &Value::Null)
}

/// Returns the event of a question for the newest 100 records of a source system.
pub fn list_event() -> Event {
    question("/messages", &Value::Null, &json!({"sourceSystemID": "loans", "limit": "100"}))
}

fn question(resource: &str, in_path: &Value, in_query: &Value) -> Event {
    let event = json!({
        "resource": resource,
        "path": resource,
        "httpMethod": "GET",
        "headers": {"Accept": "*/*", "x-api-key": "secret"},
        "pathParameters": in_path,
        "queryStringParameters": in_query,
        "requestContext": {
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"sourceIp": "192.0.2.10", "userAgent": "bench/1.0", "apiKeyId": "k1e2y3i4d5"},
        },
        "body": null,
        "isBase64Encoded": false,
    });
    Event { text: event.to_string().into_bytes(), payload_bytes: 0, decoded_bytes: 0 }
}

/// Returns the event that the workflow passes to aggregate.
pub fn aggregate_event() -> Event {
    let text = include_bytes!("../../../events/aggregate/valid.json");
    Event { text: text.to_vec(), payload_bytes: 0, decoded_bytes: 0 }
}

/// Returns random bytes, which like those of an image contain no repetition.
fn payload(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    SmallRng::seed_from_u64(4).fill(&mut bytes[..]);
    bytes
}

#[cfg(test)]
mod tests {
    use custody_core::envelope::{self, Content};

    use super::*;

    #[test]
    fn events_have_the_size_that_is_asked_for() {
        for (size, name) in EVENT_SIZES {
            for form in [Form::Base64, Form::Keyed] {
                assert_eq!(ingest_event(size, form).text.len(), size, "{name}");
            }
        }
    }

    #[test]
    fn ingest_understands_every_form_and_keeps_its_payload() {
        for form in [
            Form::Base64,
            Form::Keyed,
            Form::ContentDigest,
            Form::Text,
            Form::EscapedText,
            Form::Json,
            Form::BinaryCloudEvent,
        ] {
            for size in [8 * KIB, 256 * KIB] {
                let event = ingest_event(size, form);
                let length = event.text.len();
                assert!(length <= size && length + size / 20 > size, "{form:?}: {length} of {size}");
                let request = envelope::read(event.text.into()).unwrap().request.unwrap();
                let Content::Payload(payload) = request.content else {
                    panic!("{form:?} carries its payload")
                };
                assert_eq!(payload.content.len(), event.decoded_bytes, "{form:?}");
                assert!(event.payload_bytes <= length);
            }
        }
    }
}
