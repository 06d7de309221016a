//! A refused request on its way from ingest to the failure function.
//!
//! *Invariant:* no secret leaves ingest. What is kept of a request are the parts listed here, which carry no
//! credential; everything else is removed before the request is written anywhere.

use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    MAX_EVENT_BYTES,
    clock::Timestamp,
    error::ErrorKind,
    json::RawObject,
    message::SecurityContext,
    problem::{Problem, ProblemKind},
    proxy::RequestContext,
};

/// The fields of an event that are kept. Query strings are not: credentials travel in them.
const KEPT_FIELDS: [&str; 5] = ["httpMethod", "path", "headers", "body", "isBase64Encoded"];

/// The headers that are kept, beside those that begin with `content-` or `ce-`. Any other may be a credential.
const KEPT_HEADERS: [&str; 5] =
    ["date", "idempotency-key", "user-agent", "x-amzn-trace-id", "x-forwarded-for"];

/// A refused request, as the failure function takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedRequest<'a> {
    kind: &'static str,
    request_id: Option<&'a str>,
    refused_at: Timestamp,
    error_name: &'static str,
    reason: &'a str,
    event: Box<RawValue>,
}

impl<'a> RejectedRequest<'a> {
    /// The recoverable part of `event`, the JSON text of a proxy event, refused because of `problem`.
    pub fn new(
        event: &str,
        request_id: Option<&'a str>,
        problem: &'a Problem,
        refused_at: Timestamp,
    ) -> Self {
        Self {
            kind: "request",
            request_id,
            refused_at,
            error_name: problem.kind.error_name(),
            reason: &problem.detail,
            event: recoverable(event),
        }
    }

    /// The JSON text, at most [`MAX_EVENT_BYTES`] long: an invocation takes no more. A request that only fits
    /// without its body goes without it, and says so.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string(self).expect("strings always serialize");
        if text.len() <= MAX_EVENT_BYTES {
            return text;
        }
        let event = without_body(&self.event);
        serde_json::to_string(&RejectedRequest { event, ..*self }).expect("strings always serialize")
    }
}

/// The kind of failure that a problem is, for the dead-letter message.
pub(crate) fn kind_of_problem(error_name: &str) -> ErrorKind {
    match ProblemKind::ALL.iter().find(|kind| kind.error_name() == error_name) {
        Some(ProblemKind::NoDurableStore) => ErrorKind::Transient,
        None => ErrorKind::Internal,
        Some(_) => ErrorKind::Invalid,
    }
}

fn recoverable(event: &str) -> Box<RawValue> {
    let Ok(fields) = serde_json::from_str::<RawObject<'_>>(event) else {
        // Not the event of a proxy: nothing in it can be told from a secret, so only its size is kept.
        return raw(&json!({"unreadableEventSizeBytes": event.len()}));
    };
    let mut kept: Vec<(&str, Box<RawValue>)> = Vec::new();
    for (name, value) in fields.iter().filter(|(name, _)| KEPT_FIELDS.contains(name)) {
        let value = if name == "headers" { kept_headers(value) } else { value.to_owned() };
        kept.push((name, value));
    }
    if let Some(context) = fields.get("requestContext") {
        // The same reduction as for the evidence of an accepted record.
        let context: RequestContext = serde_json::from_str(context.get()).unwrap_or_default();
        kept.push(("requestContext", raw(&SecurityContext::from(context).request_context)));
    }
    raw(&Object(&kept))
}

fn kept_headers(headers: &RawValue) -> Box<RawValue> {
    let mut headers: Map<String, Value> = serde_json::from_str(headers.get()).unwrap_or_default();
    headers.retain(|name, _| {
        let name = name.to_ascii_lowercase();
        name.starts_with("content-") || name.starts_with("ce-") || KEPT_HEADERS.contains(&name.as_str())
    });
    raw(&headers)
}

fn without_body(event: &RawValue) -> Box<RawValue> {
    let Ok(fields) = serde_json::from_str::<RawObject<'_>>(event.get()) else { return raw(&()) };
    let mut kept: Vec<(&str, Box<RawValue>)> =
        fields.iter().filter(|(name, _)| *name != "body").map(|(name, raw)| (name, raw.to_owned())).collect();
    let size = fields.get("body").map_or(0, |body| body.get().len());
    kept.push(("omittedBodySizeBytes", raw(&size)));
    raw(&Object(&kept))
}

/// Fields of an object, in order.
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
    fn what_is_kept_has_the_body_and_no_secret() {
        let problem = Problem::new(ProblemKind::MalformedRequest, "no JSON");
        let text = RejectedRequest::new(
            &event("hel\"lo"),
            Some("r-1"),
            &problem,
            Timestamp::from_unix_ms(0).unwrap(),
        )
        .to_json();
        assert!(!text.contains("key-value") && !text.contains("t0ken"), "{text}");
        let rejected: Value = serde_json::from_str(&text).unwrap();
        let kept = &rejected["event"];
        assert_eq!(kept["body"], "hel\"lo");
        assert_eq!(kept["headers"], json!({"Content-Type": "text/plain", "ce-id": "1"}));
        assert_eq!(kept["requestContext"]["apiKeyId"], "k-1");
        assert_eq!(kept["requestContext"]["sourceIp"], "192.0.2.1");
        assert_eq!(rejected["errorName"], "MalformedRequest");
    }

    #[test]
    fn a_request_that_is_too_large_goes_without_its_body() {
        let problem = Problem::new(ProblemKind::TooLarge, "too large");
        let event = event(&"x".repeat(MAX_EVENT_BYTES));
        let text =
            RejectedRequest::new(&event, None, &problem, Timestamp::from_unix_ms(0).unwrap()).to_json();
        assert!(text.len() < 2048);
        assert!(text.contains("omittedBodySizeBytes"));
    }

    #[test]
    fn an_event_that_is_no_object_is_reduced_to_its_size() {
        assert_eq!(recoverable("[\"key-value\"]").get(), r#"{"unreadableEventSizeBytes":13}"#);
    }
}
