//! Payloads by reference: `payloadReference` in an envelope, `dataref` in a CloudEvent.

use serde_json::value::RawValue;

use super::upload_body::{check_fields, sha256, string};
use crate::{
    json::{self, RawObject},
    problem::{Problem, ProblemKind},
    upload::PayloadReference,
};

/// Reads `{"uri": "s3://bucket/key", "versionId"?: …, "sha256"?: …}`.
pub(super) fn from_json_value(raw: &RawValue, path: &str) -> Result<PayloadReference, Problem> {
    let fields: RawObject<'_> = serde_json::from_str(raw.get()).map_err(|error| {
        let detail = format!(
            "{path} is not an object that can be read ({}); send {{\"uri\": \"s3://…\"}}",
            json::error_text(&error)
        );
        Problem::new(ProblemKind::MalformedRequest, detail).at(path)
    })?;
    check_fields(&fields, path, &["uri", "versionId", "sha256"])?;
    let at = |name: &str| format!("{path}.{name}");
    let uri = fields.get("uri").ok_or_else(|| {
        let detail = "uri is missing; send the address of the object, s3://<bucket>/<key>";
        Problem::new(ProblemKind::MalformedRequest, detail).at(at("uri"))
    })?;
    let mut reference = from_uri(&string(uri, &at("uri"))?, &at("uri"))?;
    reference.sha256 = fields.get("sha256").map(|raw| sha256(raw, &at("sha256"))).transpose()?;
    reference.uri.version_id =
        fields.get("versionId").map(|raw| version(raw, &at("versionId"))).transpose()?;
    Ok(reference)
}

/// Reads the address of an object.
pub(super) fn from_uri(text: &str, path: &str) -> Result<PayloadReference, Problem> {
    let uri = text.parse().map_err(|error| {
        let detail = format!("{error}; send the address of an object in S3, or the payload itself");
        Problem::new(ProblemKind::MalformedRequest, detail).at(path)
    })?;
    Ok(PayloadReference { uri, sha256: None, content_type: None })
}

fn version(raw: &RawValue, path: &str) -> Result<String, Problem> {
    let text = string(raw, path)?;
    let is_version = (1..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_version {
        return Ok(text);
    }
    let detail = format!(
        "`{}` is not a version of an object; send the versionId of S3, or leave it out",
        json::excerpt(&text)
    );
    Err(Problem::new(ProblemKind::MalformedRequest, detail).at(path))
}
