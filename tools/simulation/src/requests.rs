//! Creates requests as API Gateway passes them to ingest, in every envelope, each with the payload that must be
//! archived.

use base64_simd::STANDARD;
use bytes::Bytes;
use custody_core::digest::Sha256;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::chance::Chance as _;

/// The envelope of a request, and the form of the payload in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Base64,
    LargeBase64,
    Text,
    JsonValue,
    StructuredEvent,
    StructuredEventInBase64,
    BinaryEvent,
    /// An envelope with the address of an object in S3.
    Reference,
    /// An envelope that cannot be read.
    Malformed,
}

const FORMS: [Form; 13] = [
    Form::Base64,
    Form::Base64,
    Form::Text,
    Form::Text,
    Form::JsonValue,
    Form::JsonValue,
    Form::StructuredEvent,
    Form::StructuredEventInBase64,
    Form::BinaryEvent,
    Form::BinaryEvent,
    Form::LargeBase64,
    Form::Reference,
    Form::Malformed,
];

/// A request of a producer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) form: Form,
    /// Whether the request has an idempotency key. A CloudEvent always counts as one that has a key.
    pub(crate) is_keyed: bool,
    /// The bytes that the payload in the envelope encodes.
    pub(crate) content: Bytes,
    /// The event that ingest receives.
    pub(crate) event: Bytes,
    /// The address of the object with the payload, if the request carries no payload.
    pub(crate) reference: Option<String>,
}

impl Request {
    /// Creates a request of this form. `number` distinguishes the payloads of one schedule, and also the keys where
    /// `is_keyed`.
    pub(crate) fn new(chance: &mut SmallRng, form: Form, number: u64, is_keyed: bool) -> Self {
        let salt = chance.below(u64::MAX);
        let mut headers = json!({"x-api-key": "secret"});
        if is_keyed {
            headers["Idempotency-Key"] = json!(format!("key {number}"));
        }
        let Written { content_type, more_headers, content, body } = write(chance, form, number, salt);
        headers["Content-Type"] = json!(content_type);
        for (name, value) in more_headers {
            headers[name] = value;
        }
        let is_event =
            matches!(form, Form::StructuredEvent | Form::StructuredEventInBase64 | Form::BinaryEvent);
        let event = json!({
            "httpMethod": "POST",
            "path": "/ingestMessage",
            "headers": headers,
            "requestContext": {
                "requestId": format!("request-{number}-{salt}"),
                "identity": {"apiKeyId": "caller", "apiKey": "secret", "sourceIp": "192.0.2.1"},
            },
            "body": body,
            "isBase64Encoded": form == Form::BinaryEvent,
        });
        Self {
            form,
            is_keyed: is_keyed || is_event,
            content: content.into(),
            event: event.to_string().into(),
            reference: (form == Form::Reference).then(|| object_uri(number, salt)),
        }
    }

    /// Creates a request of a random form.
    pub(crate) fn random(chance: &mut SmallRng, number: u64) -> Self {
        let form = chance.one_of(&FORMS);
        let is_keyed = chance.percent(50);
        Self::new(chance, form, number, is_keyed)
    }

    /// Returns the digest that a receipt for the request must have.
    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of(&self.content)
    }
}

/// A request's content type, its further headers, and its body with the content that the body encodes.
struct Written {
    content_type: &'static str,
    more_headers: Vec<(String, Value)>,
    content: Vec<u8>,
    body: String,
}

/// Writes the body of a request of this form.
fn write(chance: &mut SmallRng, form: Form, number: u64, salt: u64) -> Written {
    let text = format!("payload {number} of {salt}: \"quoted\", ümläut, \\ and a\nnew line");
    let envelope = |payload: Value, encoding| envelope(number, &payload, encoding);
    let source = format!("urn:shop:{number}");
    let event = json!({
        "specversion": "1.0", "id": format!("event {number}"), "source": source, "type": "order.placed",
        "time": "2026-11-20T22:20:59Z", "subject": format!("{salt}"),
    });
    let (mut content_type, mut more_headers) = ("application/json", Vec::new());
    let (content, body) = match form {
        Form::Base64 | Form::LargeBase64 => {
            let length = if form == Form::Base64 { 1 + chance.below(200) } else { 9_000 };
            let mut bytes: Vec<u8> = (0..length).map(|_| chance.below(256).to_le_bytes()[0]).collect();
            bytes.extend_from_slice(&salt.to_le_bytes());
            let text = STANDARD.encode_to_string(&bytes);
            (bytes, envelope(json!(text), [None, Some("base64")][usize::from(salt.is_multiple_of(2))]))
        }
        Form::Text => {
            let body = envelope(json!(text), [None, Some("utf8")][usize::from(salt.is_multiple_of(2))]);
            (text.into_bytes(), body)
        }
        Form::JsonValue => {
            // Uses white space and spellings that are lost when JSON is parsed and written again.
            let raw = format!("{{ \"n\" : 1.50,\t\"salt\": {salt}, \"t\":\"\\u00fc\" }}");
            let body = envelope(json!("@"), Some("json")).replace("\"@\"", &raw);
            (raw.into_bytes(), body)
        }
        Form::StructuredEvent => {
            content_type = "application/cloudevents+json; charset=utf-8";
            let raw = format!("[ {salt} , \"two\" ]");
            let mut event = event;
            event["data"] = json!("@");
            (raw.clone().into_bytes(), event.to_string().replace("\"@\"", &raw))
        }
        Form::StructuredEventInBase64 => {
            content_type = "application/cloudevents+json";
            let mut event = event;
            event["datacontenttype"] = json!("image/png");
            event["data_base64"] = json!(STANDARD.encode_to_string(text.as_bytes()));
            (text.into_bytes(), event.to_string())
        }
        Form::BinaryEvent => {
            content_type = "application/octet-stream";
            for (name, value) in event.as_object().into_iter().flatten() {
                more_headers.push((format!("ce-{name}"), value.clone()));
            }
            let bytes = [text.as_bytes(), &[0, 255, 254]].concat();
            let body = STANDARD.encode_to_string(&bytes);
            (bytes, body)
        }
        Form::Reference => {
            let mut reference = json!({"uri": object_uri(number, salt)});
            if salt.is_multiple_of(2) {
                reference["sha256"] = json!(Sha256::of(text.as_bytes()));
            }
            let body = envelope(json!("@"), None)
                .replace("\"messagePayload\":\"@\"", &format!("\"payloadReference\":{reference}"));
            (text.into_bytes(), body)
        }
        Form::Malformed => (Vec::new(), "{\"messagePayload\": 1".to_owned()),
    };
    Written { content_type, more_headers, content, body }
}

/// Returns the address of the object that a producer sends by reference.
fn object_uri(number: u64, salt: u64) -> String {
    format!("s3://scans/{number}/{salt}")
}

/// Returns a JSON envelope with this payload.
fn envelope(number: u64, payload: &Value, encoding: Option<&str>) -> String {
    let mut envelope = json!({
        "messageMetaData": {
            "messageType": "order", "sourceSystemID": "shop", "sourceTransactionID": format!("tx-{number}"),
            "dateTime": "2026-11-20 22:20:59.5", "note": {"nested": [1, 2.5, true, null, "ü"]},
        },
        "messagePayload": payload,
    });
    if let Some(encoding) = encoding {
        envelope["payloadEncoding"] = json!(encoding);
    }
    envelope.to_string()
}
