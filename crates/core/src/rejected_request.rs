//! The stored part of a request that was not accepted.
//!
//! *Invariant:* no secret is stored. Only the parts that are listed here are stored, and they carry no credential;
//! everything else is removed before the request is written to any store.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    clock::Timestamp,
    digest::Sha256,
    error::ErrorKind,
    json::RawObject,
    message::SecurityContext,
    problem::{Problem, ProblemKind},
    proxy::RequestContext,
    stored_names::{REJECTED_PREFIX, UNSTORED_REQUESTS_PREFIX, request_key},
};

/// The fields of an event that are stored. Query strings are not among them, because they may carry credentials.
const STORED_FIELDS: [&str; 5] = ["httpMethod", "path", "headers", "body", "isBase64Encoded"];

/// The headers that are stored, in addition to those that begin with `content-` or `ce-`. Any other header may be a
/// credential.
const STORED_HEADERS: [&str; 5] =
    ["date", "idempotency-key", "user-agent", "x-amzn-trace-id", "x-forwarded-for"];

/// The part of a rejected request that may be stored.
#[derive(Debug)]
pub struct RejectedRequest {
    event: Box<RawValue>,
    rejected_at: Timestamp,
}

impl RejectedRequest {
    /// Extracts the part of `event` that may be stored. `event` is the JSON text of a proxy event.
    pub fn new(event: &str, rejected_at: Timestamp) -> Self {
        Self { event: storable_part(event), rejected_at }
    }

    /// Returns the key under which the request is stored. The key contains the request's id, so that a repeated call
    /// stores the same object.
    pub fn key(&self, request_id: Option<&str>, kind: ErrorKind) -> String {
        let name = request_id.map_or_else(|| Sha256::of(self.event.get().as_bytes()).to_string(), file_name);
        let prefix = if kind == ErrorKind::Invalid { REJECTED_PREFIX } else { UNSTORED_REQUESTS_PREFIX };
        request_key(prefix, self.rejected_at, &name)
    }

    /// Returns the JSON text to store.
    pub fn into_content(self) -> Bytes {
        Bytes::from(String::from(Box::<str>::from(self.event)))
    }
}

/// Returns who must act on a problem: its producer (`Invalid`) or an operator (`Transient`).
pub fn kind_of(problem: &Problem) -> ErrorKind {
    match problem.kind {
        ProblemKind::NoDurableStore
        | ProblemKind::KeysUnavailable
        | ProblemKind::ReferenceNotCopied
        | ProblemKind::AccessUnavailable
        | ProblemKind::LookupUnavailable => ErrorKind::Transient,
        _ => ErrorKind::Invalid,
    }
}

/// Returns a request id as a part of an object key. API Gateway's ids are UUIDs; a direct caller may send any text.
fn file_name(id: &str) -> String {
    id.chars().take(128).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

fn storable_part(event: &str) -> Box<RawValue> {
    let Ok(fields) = serde_json::from_str::<RawObject<'_>>(event) else {
        // This is not a proxy event, so a secret in it cannot be recognized. Only the size of the event is stored.
        return raw(&json!({"unreadableEventSizeBytes": event.len()}));
    };
    let mut stored: Vec<(&str, Box<RawValue>)> = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| STORED_FIELDS.contains(name)) {
        let value = if name == "headers" { stored_headers(value) } else { value.to_owned() };
        stored.push((name, value));
    }
    if let Some(context) = fields.get("requestContext") {
        // The request context is reduced as for the evidence of an accepted record.
        let context: RequestContext = serde_json::from_str(context.get()).unwrap_or_default();
        stored.push(("requestContext", raw(&SecurityContext::from(context).request_context)));
    }
    raw(&Object(&stored))
}

fn stored_headers(headers: &RawValue) -> Box<RawValue> {
    let mut headers: Map<String, Value> = serde_json::from_str(headers.get()).unwrap_or_default();
    headers.retain(|name, _| {
        let name = name.to_ascii_lowercase();
        name.starts_with("content-") || name.starts_with("ce-") || STORED_HEADERS.contains(&name.as_str())
    });
    raw(&headers)
}

/// The fields of a JSON object, in order.
struct Object<'a>(&'a [(&'a str, Box<RawValue>)]);

impl Serialize for Object<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("JSON values always serialize")
}

#[cfg(test)]
mod tests {
    use strum::VariantArray as _;

    use super::*;

    fn event(body: &str) -> String {
        json!({
            "httpMethod": "POST",
            "headers": {"X-Api-Key": "key-value", "Authorization": "Bearer t0ken",
                "X-Auth-Token": "t0ken", "Content-Type": "text/plain", "ce-id": "1"},
            "multiValueHeaders": {"X-Api-Key": ["key-value"]},
            "queryStringParameters": {"token": "t0ken"},
            "stageVariables": {"password": "t0ken"},
            "requestContext": {
                "requestId": "r-1",
                "identity": {"apiKey": "key-value", "apiKeyId": "k-1", "sourceIp": "192.0.2.1"},
                "authorizer": {"claims": "t0ken"},
            },
            "body": body,
        })
        .to_string()
    }

    #[test]
    fn what_is_stored_has_the_body_and_no_secret() {
        let now = Timestamp::from_unix_ms(0).unwrap();
        let request = RejectedRequest::new(&event("hel\"lo"), now);
        assert_eq!(request.key(Some("r/1"), ErrorKind::Invalid), "rejected/1970/01/01/00/00/r_1.json");
        assert!(request.key(None, ErrorKind::Transient).starts_with("requests/1970/01/01/00/00/"));
        let text = request.into_content();
        let text = std::str::from_utf8(&text).unwrap();
        assert!(!text.contains("key-value") && !text.contains("t0ken"), "{text}");
        let stored: Value = serde_json::from_str(text).unwrap();
        assert_eq!(stored["body"], "hel\"lo");
        assert_eq!(stored["headers"], json!({"Content-Type": "text/plain", "ce-id": "1"}));
        assert_eq!(stored["requestContext"]["apiKeyId"], "k-1");
        assert_eq!(stored["requestContext"]["sourceIp"], "192.0.2.1");
    }

    #[test]
    fn only_what_the_deployment_could_not_take_is_an_operators_matter() {
        for &kind in ProblemKind::VARIANTS {
            let expected = if kind.status() >= 500 { ErrorKind::Transient } else { ErrorKind::Invalid };
            assert_eq!(kind_of(&Problem::new(kind, "")), expected, "{kind:?}");
        }
    }

    #[test]
    fn an_event_that_is_no_object_is_reduced_to_its_size() {
        assert_eq!(storable_part("[\"key-value\"]").get(), r#"{"unreadableEventSizeBytes":13}"#);
    }
}
