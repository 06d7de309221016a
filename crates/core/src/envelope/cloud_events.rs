//! CloudEvents 1.0 over HTTP, in structured and in binary mode.
//!
//! An event's `type`, `source`, `id` and `time` are the record's `messageType`, `sourceSystemID`, `sourceTransactionID`
//! and `dateTime`; its other attributes are stored under their own names. Source: CloudEvents 1.0.2, "JSON event
//! format" and "HTTP protocol binding".

use serde_json::{Map, Value, value::RawValue};

use super::{
    ContentPart, Envelope, PayloadPart, PayloadReference,
    json_envelope::{META_DATA, read_object},
    misread::misread_data,
    payload, reference,
};
use crate::{
    json,
    message::PayloadEncoding,
    metadata::{self, MAX_METADATA_BYTES, MessageMetadata},
    problem::{Problem, ProblemKind},
    proxy::ProxyEvent,
    receipt::Warning,
};

/// The extension with the address of an event's data.
const DATAREF: &str = "dataref";

pub(super) fn open_structured(body: &str) -> Result<Envelope<'_>, Problem> {
    let fields = read_object(body)?;
    if fields.get(META_DATA).is_some() && fields.get("specversion").is_none() {
        let detail =
            "the body is an envelope and no CloudEvent; send it with the content type application/json";
        return Err(Problem::new(ProblemKind::MalformedRequest, detail).at(format!("$.{META_DATA}")));
    }
    let mut attributes = Map::new();
    for (name, raw) in fields.iter().filter(|(name, _)| !matches!(*name, "data" | "data_base64")) {
        // In the JSON format, null means that an attribute is not set.
        if raw.get() != "null" {
            attributes.insert(name.to_owned(), attribute(name, raw)?);
        }
    }
    let content_type = attributes.get("datacontenttype").and_then(Value::as_str).map(str::to_owned);
    let dataref = attributes.get(DATAREF).and_then(Value::as_str).map(str::to_owned);
    if let (Some(uri), None, None) = (dataref, fields.get("data"), fields.get("data_base64")) {
        let content = referenced(&uri, content_type, "$.dataref")?;
        return Ok(Envelope {
            metadata: metadata(attributes, "")?,
            content,
            is_cloud_event: true,
            warnings: Vec::new(),
        });
    }
    let mut payload = match (fields.get("data"), fields.get("data_base64")) {
        (Some(_), Some(_)) => {
            return Err(Problem::new(
                ProblemKind::MalformedRequest,
                "the event has both data and data_base64; send one of them",
            )
            .at("$.data_base64"));
        }
        (None, Some(raw)) if raw.get().starts_with('"') => {
            payload::base64(&payload::unescape(raw.get(), "$.data_base64")?, "$.data_base64")?
        }
        (None, Some(_)) => return Err(not_text("data_base64").at("$.data_base64")),
        // With a JSON content type (the default) `data` is a JSON value, even where it is a string.
        (Some(raw), None) if raw.get() != "null" && content_type.as_deref().is_none_or(is_json) => {
            payload::json_text(raw.get(), "$.data")?
        }
        (data, None) => {
            let encoding = data.filter(|raw| raw.get().starts_with('"')).map(|_| PayloadEncoding::Utf8);
            payload::from_json_value(data, encoding, "$.data")?
        }
    };
    let mut warnings = Vec::new();
    if let Some(content_type) = content_type {
        if payload.encoding == PayloadEncoding::Utf8 {
            warnings.extend(fields.get("data").and_then(|raw| misread_data(raw, &content_type, "$.data")));
        }
        payload.content_type = storable(content_type, "$.datacontenttype")?;
    }
    let content = ContentPart::Payload(payload);
    Ok(Envelope { metadata: metadata(attributes, "")?, content, is_cloud_event: true, warnings })
}

pub(super) fn open_binary<'a>(event: &ProxyEvent<'_>, body: &'a [u8]) -> Result<Envelope<'a>, Problem> {
    let mut attributes = Map::new();
    for (name, value) in event.headers() {
        let name = name.to_ascii_lowercase();
        if let Some(attribute) = name.strip_prefix("ce-") {
            attributes.insert(attribute.to_owned(), percent_decode(value)?.into());
        }
    }
    if let Some(uri) = attributes.get(DATAREF).and_then(Value::as_str).filter(|_| body.is_empty()) {
        let content_type = event.header("content-type").map(str::to_owned);
        let content = referenced(uri, content_type, "ce-dataref")?;
        return Ok(Envelope {
            metadata: metadata(attributes, "ce-")?,
            content,
            is_cloud_event: true,
            warnings: Vec::new(),
        });
    }
    if body.is_empty() {
        return Err(Problem::new(
            ProblemKind::MissingPayload,
            "the body is empty; send the event's data in it",
        ));
    }
    let content_type =
        storable(event.header("content-type").unwrap_or(payload::OCTETS).to_owned(), "content-type")?;
    attributes.insert("datacontenttype".to_owned(), content_type.clone().into());
    let payload = PayloadPart { content: body.into(), content_type, encoding: PayloadEncoding::Binary };
    let content = ContentPart::Payload(payload);
    Ok(Envelope {
        metadata: metadata(attributes, "ce-")?,
        content,
        is_cloud_event: true,
        warnings: Vec::new(),
    })
}

/// Returns the problem of an event in binary mode whose headers have no `ce-specversion`; `None` if no header is of an event.
pub(super) fn without_version(event: &ProxyEvent<'_>) -> Option<Problem> {
    let is_of_event = FIELDS.iter().any(|(attribute, _)| event.header(&format!("ce-{attribute}")).is_some());
    is_of_event.then(|| {
        let detail = "the event has no `ce-specversion`; send `ce-specversion: 1.0`";
        Problem::new(ProblemKind::InvalidMetadata, detail).at("ce-specversion")
    })
}

/// Explains a problem of an event in structured mode whose headers are those of one in binary mode.
pub(super) fn explain_mode(mut problem: Problem, event: &ProxyEvent<'_>, body: &str) -> Problem {
    let is_structured = || read_object(body).is_ok_and(|fields| fields.get("specversion").is_some());
    if event.header("ce-specversion").is_some() && !is_structured() {
        problem.detail = format!(
            "with the content type application/cloudevents+json the headers ce-* are not read; send the content type of the data, if the body is only \
             the data. As it was read, {}",
            problem.detail
        );
    }
    problem
}

/// Returns the reference in the extension `dataref`. An event that has data as well carries its payload itself. Source:
/// CloudEvents, "Dataref extension".
fn referenced(uri: &str, content_type: Option<String>, path: &str) -> Result<ContentPart<'static>, Problem> {
    let content_type = content_type.map(|text| storable(text, "datacontenttype")).transpose()?;
    let reference = reference::from_uri(uri, path)?;
    Ok(ContentPart::Reference(PayloadReference { content_type, ..reference }))
}

/// Returns the record's metadata from an event's attributes. `prefix` is how the request spells attribute names.
fn metadata(mut attributes: Map<String, Value>, prefix: &str) -> Result<MessageMetadata, Problem> {
    let size_bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
    if size_bytes > MAX_METADATA_BYTES {
        return Err(Problem::new(
            ProblemKind::InvalidMetadata,
            format!(
                "the event's attributes have {size_bytes} bytes and the limit is {MAX_METADATA_BYTES}; \
                     move large values into the data"
            ),
        ));
    }
    let detail = match attributes.get("specversion") {
        Some(Value::String(version)) if version == "1.0" => None,
        Some(Value::Number(_)) => {
            Some("specversion is a number; send \"1.0\", in quotation marks".to_owned())
        }
        Some(_) => Some("specversion is not \"1.0\"; send CloudEvents 1.0".to_owned()),
        None => Some(format!("the event has no `{prefix}specversion`; send 1.0 as its text")),
    };
    if let Some(detail) = detail {
        return Err(Problem::new(ProblemKind::InvalidMetadata, detail).at(format!("{prefix}specversion")));
    }
    let mut fields = Map::new();
    for (attribute, field) in FIELDS {
        let Some(value) = attributes.shift_remove(attribute) else {
            return Err(Problem::new(
                ProblemKind::InvalidMetadata,
                format!("the event has no `{prefix}{attribute}`; send it (it is the record's {field})"),
            )
            .at(format!("{prefix}{attribute}")));
        };
        fields.insert(field.to_owned(), value);
    }
    fields.append(&mut attributes);
    MessageMetadata::from_fields(fields).map_err(|problem| in_terms_of_the_event(problem, prefix))
}

/// The attributes that have a field of their own in the metadata.
const FIELDS: [(&str, &str); 4] = [
    ("type", "messageType"),
    ("source", "sourceSystemID"),
    ("id", "sourceTransactionID"),
    ("time", "dateTime"),
];

/// Names what the producer has sent: an attribute, and not the field that it becomes.
fn in_terms_of_the_event(problem: Problem, prefix: &str) -> Problem {
    let of_field =
        |field: &str| problem.path.as_deref().is_some_and(|path| path.ends_with(&format!(".{field}")));
    match FIELDS.iter().find(|(_, field)| of_field(field)) {
        Some((attribute, field)) => {
            let detail = problem.detail.replacen(field, &format!("{prefix}{attribute}"), 1);
            Problem { detail, ..problem }.at(format!("{prefix}{attribute}"))
        }
        None => problem,
    }
}

/// Names what the producer has sent in a warning, as [`in_terms_of_the_event`] does in a problem.
pub(super) fn warning_of_the_event(warning: Warning) -> Warning {
    match FIELDS.iter().find(|(_, field)| warning.at.ends_with(&format!(".{field}"))) {
        Some((attribute, field)) => {
            Warning { at: (*attribute).to_owned(), detail: warning.detail.replacen(field, attribute, 1) }
        }
        None => warning,
    }
}

/// Returns a media type if the archive can store it as an object's header, or else its problem.
pub(crate) fn storable(content_type: String, path: &str) -> Result<String, Problem> {
    let well_formed = content_type.len() <= 255
        && content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && content_type
            .split_once('/')
            .is_some_and(|(kind, rest)| !kind.trim().is_empty() && !rest.trim().is_empty());
    if well_formed {
        return Ok(content_type);
    }
    Err(Problem::new(
        ProblemKind::InvalidMetadata,
        format!("`{}` is not a media type; send one like image/png", json::excerpt(&content_type)),
    )
    .at(path))
}

/// Reads a context attribute: a string, an integer or a boolean.
fn attribute(name: &str, raw: &RawValue) -> Result<Value, Problem> {
    // The names of the record's own fields do not match this pattern, so no extension can replace them.
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) || name.is_empty() {
        let name = json::excerpt(name);
        return Err(Problem::new(
            ProblemKind::InvalidMetadata,
            format!(
                "`{name}` is not a valid name of a CloudEvents attribute; send lower-case letters and digits"
            ),
        )
        .at(format!("$.{name}")));
    }
    if let Some(number) = json::first_inexact_number(raw.get()) {
        return Err(metadata::inexact(&format!("$.{name}"), number));
    }
    match serde_json::from_str(raw.get()) {
        Ok(value @ (Value::String(_) | Value::Bool(_) | Value::Number(_))) => Ok(value),
        _ => Err(Problem::new(
            ProblemKind::InvalidMetadata,
            format!(
                "the attribute `{}` is not a string, a number or a boolean; send anything else in data",
                json::excerpt(name)
            ),
        )
        .at(format!("$.{}", json::excerpt(name)))),
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn not_text(name: &str) -> Problem {
    Problem::new(ProblemKind::InvalidPayloadEncoding, format!("{name} is not a string; send base64 text"))
}

/// Undoes the percent-encoding that the HTTP binding prescribes for header values.
fn percent_decode(value: &str) -> Result<String, Problem> {
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(value).collect();
    String::from_utf8(bytes).map_err(|_| {
        Problem::new(
            ProblemKind::InvalidMetadata,
            format!("the header value `{}` is not percent-encoded UTF-8", json::excerpt(value)),
        )
    })
}
