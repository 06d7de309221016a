//! The payload inside a JSON envelope, as the bytes to archive.

use std::borrow::Cow;

use base64_simd::STANDARD;
use serde_json::value::RawValue;

use super::PayloadPart;
use crate::{
    json,
    message::PayloadEncoding,
    problem::{Problem, ProblemKind},
};

/// The maximum nesting of a JSON payload. The payload is archived as bytes, but its consumers parse it, and common
/// readers stop at a few hundred to a thousand levels.
pub(super) const MAX_DEPTH: usize = 512;

/// The media type of a payload of which none is known.
pub(crate) const OCTETS: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// Reads `payloadEncoding`. `None`: the encoding follows from the payload.
pub(super) fn declared_encoding(raw: Option<&RawValue>) -> Result<Option<PayloadEncoding>, Problem> {
    let Some(raw) = raw else { return Ok(None) };
    match raw.get() {
        "null" => Ok(None),
        r#""base64""# => Ok(Some(PayloadEncoding::Base64)),
        r#""utf8""# => Ok(Some(PayloadEncoding::Utf8)),
        r#""json""# => Ok(Some(PayloadEncoding::Json)),
        other => Err(Problem::new(
            ProblemKind::InvalidPayloadEncoding,
            format!(
                "payloadEncoding is {}; send \"base64\", \"utf8\" or \"json\", or leave it out",
                json::excerpt(other)
            ),
        )
        .at("$.payloadEncoding")),
    }
}

/// Returns the payload of a JSON value. Unless `encoding` is declared, a base64 string is decoded, another string is
/// text, and any other value is its own JSON text.
pub(super) fn from_json_value<'a>(
    raw: Option<&'a RawValue>,
    encoding: Option<PayloadEncoding>,
    path: &str,
) -> Result<PayloadPart<'a>, Problem> {
    let raw = match raw.map(RawValue::get) {
        None => return Err(missing(path, "is missing")),
        Some("null") => return Err(missing(path, "is null")),
        Some("\"\"") => return Err(missing(path, "is empty")),
        Some(raw) => raw,
    };
    let is_string = raw.starts_with('"');
    match (encoding, is_string) {
        (Some(PayloadEncoding::Json), _) | (None, false) => json_text(raw, path),
        (None, true) => {
            let text = unescape(raw, path)?;
            Ok(match STANDARD.decode_to_vec(text.as_ref()) {
                Ok(bytes) => decoded(bytes),
                Err(_) => plain_text(text),
            })
        }
        (Some(PayloadEncoding::Base64), true) => base64(&unescape(raw, path)?, path),
        // A producer cannot declare `Binary`.
        (Some(PayloadEncoding::Utf8 | PayloadEncoding::Binary), true) => Ok(plain_text(unescape(raw, path)?)),
        (Some(_), false) => Err(Problem::new(
            ProblemKind::InvalidPayloadEncoding,
            "payloadEncoding declares a string, and the payload is not a string; \
             send a string, or payloadEncoding \"json\"",
        )
        .at(path)),
    }
}

/// Decodes a string that was declared to be base64: the standard alphabet, padded, no line breaks.
pub(super) fn base64(text: &str, path: &str) -> Result<PayloadPart<'static>, Problem> {
    let content = STANDARD.decode_to_vec(text).map_err(|_| {
        let what = if text.starts_with("data:") {
            "the payload is a data URL and not base64; send what follows its comma"
        } else {
            "the payload is not base64 (standard alphabet, padded, without line breaks); correct it"
        };
        let or_text = if path == "$.data_base64" {
            "send text in data, with a datacontenttype such as text/plain"
        } else {
            "send it as text with payloadEncoding \"utf8\""
        };
        let detail = format!("{what}, or {or_text}");
        Problem::new(ProblemKind::InvalidPayloadEncoding, detail).at(path).at_offset(first_invalid_byte(text))
    })?;
    if content.is_empty() { Err(missing(path, "is empty")) } else { Ok(decoded(content)) }
}

fn decoded(content: Vec<u8>) -> PayloadPart<'static> {
    PayloadPart {
        content: content.into(),
        content_type: OCTETS.to_owned(),
        encoding: PayloadEncoding::Base64,
    }
}

fn plain_text(text: Cow<'_, str>) -> PayloadPart<'_> {
    PayloadPart { content: into_bytes(text), content_type: TEXT.to_owned(), encoding: PayloadEncoding::Utf8 }
}

/// Returns the position of the first byte outside the alphabet, or the end if only the length or the padding is wrong.
fn first_invalid_byte(text: &str) -> usize {
    let content = text.trim_end_matches('=');
    content
        .bytes()
        .position(|b| !(b.is_ascii_alphanumeric() || b == b'+' || b == b'/'))
        .unwrap_or(content.len())
}

pub(super) fn json_text<'a>(raw: &'a str, path: &str) -> Result<PayloadPart<'a>, Problem> {
    let depth = json::nesting_depth(raw);
    if depth > MAX_DEPTH {
        return Err(Problem::new(
            ProblemKind::MalformedRequest,
            format!(
                "the payload nests {depth} levels deep and the limit is {MAX_DEPTH}; \
                 send it as a string with payloadEncoding \"utf8\" or \"base64\""
            ),
        )
        .at(path));
    }
    Ok(PayloadPart {
        content: raw.as_bytes().into(),
        content_type: JSON.to_owned(),
        encoding: PayloadEncoding::Json,
    })
}

/// Returns the text of a JSON string, borrowed unless it has escapes.
pub(super) fn unescape<'a>(raw: &'a str, path: &str) -> Result<Cow<'a, str>, Problem> {
    let inner = &raw[1..raw.len() - 1];
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).map(Cow::Owned).map_err(|error| {
        // The whole envelope was parsed, so only an escape can be wrong: half of a surrogate pair.
        Problem::new(
            ProblemKind::MalformedRequest,
            format!("the payload is not text ({}); send it as base64", json::error_text(&error)),
        )
        .at(path)
        .at_offset(json::error_offset(raw, &error))
    })
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

pub(super) fn missing(path: &str, what: &str) -> Problem {
    let name = path.trim_start_matches("$.");
    Problem::new(ProblemKind::MissingPayload, format!("{name} {what}; send the record's content in it"))
        .at(path)
}
