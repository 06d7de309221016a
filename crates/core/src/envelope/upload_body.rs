//! The body of `POST /uploads`: `{"messageMetaData": {…}, "payload": {"size": …, "sha256": …, "contentType"?: …}}`.

use serde_json::value::RawValue;

use super::{cloud_events::storable, json_envelope::read_object, offset_in, payload::OCTETS, text};
use crate::{
    digest::Sha256,
    json::{self, RawObject},
    metadata::MessageMetadata,
    problem::{Problem, ProblemKind},
    upload::{AnnouncedPayload, MAX_UPLOAD_BYTES},
};

const METADATA: &str = "messageMetaData";
const PAYLOAD: &str = "payload";

/// Reads the metadata and the description of the payload of an upload.
pub(crate) fn read_upload_body(body: &[u8]) -> Result<(MessageMetadata, AnnouncedPayload), Problem> {
    let body = text(body)?;
    let fields = read_object(body)?;
    check_fields(&fields, "$", &[METADATA, PAYLOAD])?;
    let metadata = required(&fields, "$", METADATA)?;
    let metadata = MessageMetadata::parse(metadata.get(), offset_in(body, metadata.get()))?;
    let payload = required(&fields, "$", PAYLOAD)?;
    let payload: RawObject<'_> = serde_json::from_str(payload.get()).map_err(|error| {
        let detail = format!("payload is not an object that can be read ({})", json::error_text(&error));
        malformed("$.payload", detail)
    })?;
    Ok((metadata, announced(&payload)?))
}

fn announced(payload: &RawObject<'_>) -> Result<AnnouncedPayload, Problem> {
    const PATH: &str = "$.payload";
    check_fields(payload, PATH, &["size", "sha256", "contentType"])?;
    let size = required(payload, PATH, "size")?.get();
    let size_bytes: u64 = size.parse().map_err(|_| {
        let detail = format!("size is {}; send the number of bytes of the payload", json::excerpt(size));
        malformed("$.payload.size", detail)
    })?;
    if size_bytes == 0 {
        return Err(
            Problem::new(ProblemKind::MissingPayload, "size is 0; send a payload").at("$.payload.size")
        );
    }
    if size_bytes > MAX_UPLOAD_BYTES {
        let detail = format!("size is {size_bytes} and the limit is {MAX_UPLOAD_BYTES}; split the payload");
        return Err(Problem::new(ProblemKind::TooLarge, detail).at("$.payload.size"));
    }
    let sha256 = sha256(required(payload, PATH, "sha256")?, "$.payload.sha256")?;
    let content_type = match payload.get("contentType") {
        None => OCTETS.to_owned(),
        Some(raw) => storable(string(raw, "$.payload.contentType")?, "$.payload.contentType")?,
    };
    Ok(AnnouncedPayload { sha256: Some(sha256), size_bytes, content_type })
}

/// Reads a digest in hexadecimal digits, as receipts have it.
pub(super) fn sha256(raw: &RawValue, path: &str) -> Result<Sha256, Problem> {
    let text = string(raw, path)?;
    Sha256::from_hex(&text.to_ascii_lowercase()).ok_or_else(|| {
        let text = json::excerpt(&text);
        malformed(
            path,
            format!("`{text}` is not a SHA-256; send its 64 hexadecimal digits, as sha256sum prints them"),
        )
    })
}

pub(super) fn string(raw: &RawValue, path: &str) -> Result<String, Problem> {
    serde_json::from_str(raw.get())
        .map_err(|_| malformed(path, format!("{path} is not a string; send it in quotation marks")))
}

/// Rejects a field that would be lost without notice.
pub(super) fn check_fields(fields: &RawObject<'_>, path: &str, known: &[&str]) -> Result<(), Problem> {
    fields.iter().find(|(name, _)| !known.contains(name)).map_or(Ok(()), |(name, _)| {
        let name = json::excerpt(name);
        let detail = format!("`{name}` is not a field of {path}; its fields are {}", known.join(", "));
        Err(malformed(&format!("{path}.{name}"), detail))
    })
}

fn required<'a>(fields: &RawObject<'a>, path: &str, name: &str) -> Result<&'a RawValue, Problem> {
    fields
        .get(name)
        .ok_or_else(|| malformed(&format!("{path}.{name}"), format!("{name} is missing; send it")))
}

fn malformed(path: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::MalformedRequest, detail).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str =
        r#""messageMetaData":{"messageType":"t","sourceSystemID":"s","dateTime":"2026-01-31T09:30:00Z"}"#;

    fn read(payload: &str) -> Result<AnnouncedPayload, Problem> {
        read_upload_body(format!("{{{METADATA},\"payload\":{payload}}}").as_bytes())
            .map(|(_, payload)| payload)
    }

    #[test]
    fn a_payload_is_announced_with_its_size_and_digest() {
        let digest = Sha256::of(b"x");
        let payload = read(&format!(
            r#"{{"size":5368709120,"sha256":"{}","contentType":"a/b; c=d"}}"#,
            digest.to_string().to_uppercase()
        ));
        let expected = AnnouncedPayload {
            sha256: Some(digest),
            size_bytes: MAX_UPLOAD_BYTES,
            content_type: "a/b; c=d".to_owned(),
        };
        assert_eq!(payload.unwrap(), expected);
        assert_eq!(read(&format!(r#"{{"size":1,"sha256":"{digest}"}}"#)).unwrap().content_type, OCTETS);
    }

    #[test]
    fn an_unacceptable_announcement_is_named_by_its_path() {
        let digest = Sha256::of(b"x");
        for (payload, path, slug) in [
            ("7".to_owned(), "$.payload", "malformed-request"),
            (format!(r#"{{"sha256":"{digest}"}}"#), "$.payload.size", "malformed-request"),
            (format!(r#"{{"size":"1","sha256":"{digest}"}}"#), "$.payload.size", "malformed-request"),
            (format!(r#"{{"size":-1,"sha256":"{digest}"}}"#), "$.payload.size", "malformed-request"),
            (format!(r#"{{"size":1.5,"sha256":"{digest}"}}"#), "$.payload.size", "malformed-request"),
            (format!(r#"{{"size":0,"sha256":"{digest}"}}"#), "$.payload.size", "missing-payload"),
            (format!(r#"{{"size":5368709121,"sha256":"{digest}"}}"#), "$.payload.size", "too-large"),
            (r#"{"size":1}"#.to_owned(), "$.payload.sha256", "malformed-request"),
            (r#"{"size":1,"sha256":7}"#.to_owned(), "$.payload.sha256", "malformed-request"),
            (r#"{"size":1,"sha256":"abc"}"#.to_owned(), "$.payload.sha256", "malformed-request"),
            (
                format!(r#"{{"size":1,"sha256":"{digest}","contentType":"png"}}"#),
                "$.payload.contentType",
                "invalid-metadata",
            ),
            (
                format!(r#"{{"size":1,"sha256":"{digest}","contentType":"a/b\r\nx: y"}}"#),
                "$.payload.contentType",
                "invalid-metadata",
            ),
            (format!(r#"{{"size":1,"sha256":"{digest}","name":1}}"#), "$.payload.name", "malformed-request"),
        ] {
            let problem = read(&payload).unwrap_err();
            assert_eq!(
                (problem.path.as_deref(), problem.kind.slug()),
                (Some(path), slug),
                "{payload}: {}",
                problem.detail
            );
        }
        for (body, path) in
            [(r#"{"payload":{}}"#, "$.messageMetaData"), (&*format!("{{{METADATA}}}"), "$.payload")]
        {
            assert_eq!(read_upload_body(body.as_bytes()).unwrap_err().path.as_deref(), Some(path));
        }
        assert!(
            read_upload_body(b"").is_err()
                && read_upload_body(b"\xff").is_err()
                && read_upload_body(b"[]").is_err()
        );
    }
}
