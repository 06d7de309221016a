//! `application/json`: `{"messageMetaData": {…}, "messagePayload": …, "payloadEncoding"?: …}`.

use super::{CLOUD_EVENT, ContentPart, Envelope, misread::misread, offset_in, payload, reference};
use crate::{
    json::{self, RawObject},
    metadata::MessageMetadata,
    nearest::nearest,
    problem::{Problem, ProblemKind},
};

pub(super) const META_DATA: &str = "messageMetaData";
const PAYLOAD: &str = "messagePayload";
const REFERENCE: &str = "payloadReference";
const ENCODING: &str = "payloadEncoding";

pub(super) fn open(body: &str) -> Result<Envelope<'_>, Problem> {
    let fields = read_object(body)?;
    // A field that is not read would be lost without notice.
    let is_unknown = |name: &str| ![META_DATA, PAYLOAD, REFERENCE, ENCODING].contains(&name);
    let is_event = fields.get("specversion").is_some();
    if let Some((name, _)) =
        fields.iter().find(|(name, _)| is_unknown(name) && (!is_event || *name == "specversion"))
    {
        let advice = advice_on(name, &fields);
        let name = json::excerpt(name);
        let detail = format!("`{name}` is not a field of the envelope; {advice}");
        return Err(Problem::new(ProblemKind::MalformedRequest, detail).at(format!("$.{name}")));
    }
    let Some(metadata) = fields.get(META_DATA) else {
        return Err(Problem::new(
            ProblemKind::MalformedRequest,
            format!("{META_DATA} is missing; send it as an object beside {PAYLOAD}"),
        )
        .at(format!("$.{META_DATA}")));
    };
    let metadata = MessageMetadata::parse(metadata.get(), offset_in(body, metadata.get()))?;
    if metadata.has_field(PAYLOAD) && fields.get(PAYLOAD).is_none() && fields.get(REFERENCE).is_none() {
        let detail = format!("{PAYLOAD} is inside {META_DATA}; move it out, beside {META_DATA}");
        return Err(Problem::new(ProblemKind::MissingPayload, detail).at(format!("$.{META_DATA}.{PAYLOAD}")));
    }
    let encoding = payload::declared_encoding(fields.get(ENCODING))?;
    let content = match (fields.get(REFERENCE), fields.get(PAYLOAD), encoding) {
        (None, payload, encoding) => {
            ContentPart::Payload(payload::from_json_value(payload, encoding, &format!("$.{PAYLOAD}"))?)
        }
        (Some(reference), None, None) => {
            ContentPart::Reference(reference::from_json_value(reference, &format!("$.{REFERENCE}"))?)
        }
        (Some(_), ..) => {
            let detail =
                format!("the envelope has {REFERENCE} beside {PAYLOAD} or {ENCODING}; send one of the two");
            return Err(Problem::new(ProblemKind::MalformedRequest, detail).at(format!("$.{REFERENCE}")));
        }
    };
    let undeclared = fields.get(PAYLOAD).filter(|_| encoding.is_none());
    let warnings = undeclared.and_then(|payload| misread(payload, &format!("$.{PAYLOAD}")));
    Ok(Envelope { metadata, content, is_cloud_event: false, warnings: warnings.into_iter().collect() })
}

/// Returns whether a body that cannot be accepted is meant as an envelope. It may be broken JSON.
pub(super) fn is_envelope(body: &str) -> bool {
    match read_object(body) {
        Ok(fields) => fields.get(META_DATA).is_some(),
        Err(_) => body.contains(&format!("\"{META_DATA}\"")),
    }
}

/// Says what to do with a field that the envelope does not have.
fn advice_on(name: &str, fields: &RawObject<'_>) -> String {
    let is_absent = |name: &&str| fields.get(name).is_none();
    let absent: Vec<_> = [META_DATA, PAYLOAD, REFERENCE, ENCODING].into_iter().filter(is_absent).collect();
    let lacks = |names: &[&str]| names.iter().all(|name| absent.contains(name));
    if name == "specversion" {
        format!("a CloudEvent has the content type {CLOUD_EVENT}")
    } else if let Some(meant) = nearest(name, &absent) {
        format!("did you mean `{meant}`?")
    } else if lacks(&[META_DATA, PAYLOAD, REFERENCE]) {
        format!("send the record itself as {PAYLOAD}, beside {META_DATA}")
    } else if let Some(place) = place_of(name) {
        place.to_owned()
    } else if lacks(&[PAYLOAD, REFERENCE]) {
        format!(
            "rename it to {PAYLOAD} if it is the record's content, and move it into {META_DATA} if it is metadata"
        )
    } else {
        format!("move it into {META_DATA}, which may have any field, if it is metadata")
    }
}

/// Says where a request has what a field of this name is meant for; `None` if it has no such place.
fn place_of(name: &str) -> Option<&'static str> {
    let letters: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
    match letters.as_str() {
        "contenttype" | "payloadcontenttype" | "mediatype" | "mimetype" | "datacontenttype" => Some(
            "an envelope has no media type: send the bytes as a CloudEvent (`ce-*` headers and a content-type), or by POST /uploads, which \
                 keep the type",
        ),
        "idempotencykey" => Some("send it as the header Idempotency-Key"),
        "durability" | "custodydurability" => Some("send it as the header Custody-Durability"),
        "digest" | "contentdigest" | "sha256" => {
            Some("send it as the header Content-Digest: sha-256=:<base64 of the body's SHA-256>:")
        }
        _ => None,
    }
}

/// Reads the body as one JSON object, or returns the problem and its offset.
pub(super) fn read_object(body: &str) -> Result<RawObject<'_>, Problem> {
    let start = body.len() - body.trim_ascii_start().len();
    if body.starts_with('\u{feff}') {
        let detail = "the body begins with a byte order mark (U+FEFF); send JSON in UTF-8 without one";
        return Err(Problem::new(ProblemKind::MalformedRequest, detail).at_offset(0));
    }
    if !body[start..].starts_with('{') {
        // The parser's own message would quote the value that it found, which may be a whole record.
        return Err(Problem::new(
            ProblemKind::MalformedRequest,
            "the body is not a JSON object; send an object (a body in quotation marks was encoded twice)",
        )
        .at_offset(start));
    }
    serde_json::from_str(body).map_err(|error| {
        let (mut text, offset) = (json::error_text(&error), json::error_offset(body, &error));
        // Python writes them unless it is told otherwise. The offset may be in the middle of a character.
        let rest = &body.as_bytes()[offset..];
        if let Some(name) = ["NaN", "Infinity"].iter().find(|name| rest.starts_with(name.as_bytes())) {
            text = format!("{name} is not JSON; send null or a string");
        }
        let detail = match error.classify() {
            serde_json::error::Category::Eof => {
                format!("the JSON ends too early ({text}); the request was probably cut off, send it again in full")
            }
            _ => format!("the body is not a JSON object that can be read ({text}); correct it at the offset given"),
        };
        Problem::new(ProblemKind::MalformedRequest, detail).at_offset(offset)
    })
}
