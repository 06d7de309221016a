//! The answer to a request that is not accepted: RFC 9457 problem details.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};

/// A class of problem. Its [`slug`](Self::slug) is a public contract: clients match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(const_into_str, serialize_all = "kebab-case")]
pub enum ProblemKind {
    /// The body does not match its content type (broken JSON, a wrong type, an unknown field).
    MalformedRequest,
    /// A header of the request is not acceptable.
    InvalidHeader,
    /// The request has no payload, or an empty one.
    MissingPayload,
    /// The payload is not in the encoding that the request declares.
    InvalidPayloadEncoding,
    /// A metadata field is missing, empty or not acceptable.
    InvalidMetadata,
    /// The payload does not have the digest that the producer sent with it.
    DigestMismatch,
    /// The request's idempotency key belongs to a record with another payload, content type or metadata.
    IdempotencyConflict,
    /// The request is larger than one event can carry.
    TooLarge,
    /// The content type is not one that this endpoint reads.
    UnsupportedMediaType,
    /// The deployment cannot give the durability that the request asks for.
    DurabilityNotOffered,
    /// The caller may not do what it has requested.
    Forbidden,
    /// A parameter of a question about records is missing or not acceptable.
    InvalidQuery,
    /// There is no such record, or the caller may not read it.
    UnknownRecord,
    /// There is no such upload, or the caller has not begun it, or it has expired.
    UnknownUpload,
    /// The payload of the upload has not arrived.
    UploadIncomplete,
    /// The deployment does not take objects of this bucket by reference.
    ReferenceNotAllowed,
    /// There is no object at the address that was sent by reference.
    ReferenceNotFound,
    /// Custody may not read the object that was sent by reference.
    ReferenceUnreadable,
    /// The object has changed since it was sent by reference.
    ReferenceChanged,
    /// The copy of the object takes longer than a request may.
    ReferenceNotCopied,
    /// The payload is not in the archive yet.
    PayloadNotArchived,
    /// The payload is in no store.
    PayloadLost,
    /// The stores of records cannot be asked now.
    LookupUnavailable,
    /// The rights of the caller cannot be looked up now.
    AccessUnavailable,
    /// No store could take the record now.
    NoDurableStore,
    /// The claim of the request's idempotency key cannot be looked up now.
    #[strum(serialize = "idempotency-unavailable")]
    KeysUnavailable,
}

impl ProblemKind {
    /// Returns the stable name; the problem's `type` is `urn:custody:problem:<slug>`.
    pub const fn slug(self) -> &'static str {
        self.into_str()
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::MalformedRequest
            | Self::InvalidHeader
            | Self::MissingPayload
            | Self::InvalidPayloadEncoding
            | Self::InvalidQuery => 400,
            Self::InvalidMetadata
            | Self::DigestMismatch
            | Self::DurabilityNotOffered
            | Self::ReferenceNotAllowed
            | Self::ReferenceNotFound
            | Self::ReferenceUnreadable => 422,
            Self::Forbidden => 403,
            Self::UnknownRecord | Self::UnknownUpload => 404,
            Self::IdempotencyConflict
            | Self::PayloadNotArchived
            | Self::UploadIncomplete
            | Self::ReferenceChanged => 409,
            Self::PayloadLost => 410,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::AccessUnavailable
            | Self::LookupUnavailable
            | Self::NoDurableStore
            | Self::KeysUnavailable
            | Self::ReferenceNotCopied => 503,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::MalformedRequest => "The request body cannot be read",
            Self::InvalidHeader => "A header of the request is not acceptable",
            Self::MissingPayload => "The request has no payload",
            Self::InvalidPayloadEncoding => "The payload is not in its declared encoding",
            Self::InvalidMetadata => "The metadata is not acceptable",
            Self::DigestMismatch => "The content does not match its digest",
            Self::IdempotencyConflict => "The idempotency key belongs to another record",
            Self::TooLarge => "The request is too large",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::DurabilityNotOffered => "The deployment does not offer this durability",
            Self::Forbidden => "The caller may not do this",
            Self::InvalidQuery => "The question is not acceptable",
            Self::UnknownRecord => "There is no such record",
            Self::UnknownUpload => "There is no such upload",
            Self::UploadIncomplete => "The payload has not arrived",
            Self::ReferenceNotAllowed => "The object must not be sent by reference",
            Self::ReferenceNotFound => "The referenced object does not exist",
            Self::ReferenceUnreadable => "The referenced object cannot be read",
            Self::ReferenceChanged => "The referenced object has changed",
            Self::ReferenceNotCopied => "The referenced object is not copied yet",
            Self::PayloadNotArchived => "The payload is not archived yet",
            Self::PayloadLost => "The payload is lost",
            Self::LookupUnavailable => "Records cannot be looked up now",
            Self::AccessUnavailable => "The caller's rights cannot be looked up now",
            Self::NoDurableStore => "No store can take the record now",
            Self::KeysUnavailable => "Idempotency keys cannot be looked up now",
        }
    }

    /// Returns the error name in the dead letter of a request with this problem.
    pub const fn error_name(self) -> &'static str {
        match self {
            Self::MalformedRequest => "MalformedRequest",
            Self::InvalidHeader => "InvalidHeader",
            Self::MissingPayload => "MissingPayload",
            Self::InvalidPayloadEncoding => "InvalidPayloadEncoding",
            Self::InvalidMetadata => "InvalidMetadata",
            Self::DigestMismatch => "DigestMismatch",
            Self::IdempotencyConflict => "IdempotencyConflict",
            Self::TooLarge => "TooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::DurabilityNotOffered => "DurabilityNotOffered",
            Self::Forbidden => "Forbidden",
            Self::InvalidQuery => "InvalidQuery",
            Self::UnknownRecord => "UnknownRecord",
            Self::UnknownUpload => "UnknownUpload",
            Self::UploadIncomplete => "UploadIncomplete",
            Self::ReferenceNotAllowed => "ReferenceNotAllowed",
            Self::ReferenceNotFound => "ReferenceNotFound",
            Self::ReferenceUnreadable => "ReferenceUnreadable",
            Self::ReferenceChanged => "ReferenceChanged",
            Self::ReferenceNotCopied => "ReferenceNotCopied",
            Self::PayloadNotArchived => "PayloadNotArchived",
            Self::PayloadLost => "PayloadLost",
            Self::LookupUnavailable => "LookupUnavailable",
            Self::AccessUnavailable => "AccessUnavailable",
            Self::NoDurableStore => "NoDurableStore",
            Self::KeysUnavailable => "KeysUnavailable",
        }
    }
}

/// The maximum length of a problem's detail, in characters.
const MAX_DETAIL_CHARS: usize = 512;

/// One problem: what is wrong, where it is, and how to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The class of problem.
    pub kind: ProblemKind,
    /// What is wrong with this request and how to correct it, as text for a person.
    pub detail: String,
    /// The JSON path of the offending value, `$.messageMetaData.dateTime`.
    pub path: Option<String>,
    /// The byte offset in the body (or, beside a `path`, in that value) where reading stopped.
    pub offset: Option<usize>,
}

impl Problem {
    /// Creates a problem of `kind`.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        // A detail may quote the request; the limit ensures that it never contains a whole payload.
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_CHARS) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { kind, detail, path: None, offset: None }
    }

    /// Adds the JSON path of the problem.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Adds the byte offset of the problem.
    #[must_use]
    pub fn at_offset(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Returns the `application/problem+json` body. `instance` names this occurrence (the request's id).
    pub fn to_json(&self, instance: Option<&str>) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            instance: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            path: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            offset: Option<usize>,
        }
        let body = Body {
            r#type: format!("urn:custody:problem:{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status(),
            detail: &self.detail,
            instance: instance.map(|id| format!("urn:custody:request:{id}")),
            path: self.path.as_deref(),
            offset: self.offset,
        };
        serde_json::to_string(&body).expect("strings and numbers always serialize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_a_problem_details_object() {
        let problem =
            Problem::new(ProblemKind::InvalidMetadata, "send it").at("$.messageMetaData").at_offset(7);
        let body: serde_json::Value = serde_json::from_str(&problem.to_json(Some("r-1"))).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:custody:problem:invalid-metadata",
                "title": "The metadata is not acceptable",
                "status": 422,
                "detail": "send it",
                "instance": "urn:custody:request:r-1",
                "path": "$.messageMetaData",
                "offset": 7,
            })
        );
    }

    #[test]
    fn slugs_and_error_names_are_distinct() {
        for (i, a) in ProblemKind::VARIANTS.iter().enumerate() {
            for b in &ProblemKind::VARIANTS[i + 1..] {
                assert_ne!(a.slug(), b.slug());
                assert_ne!(a.error_name(), b.error_name());
            }
        }
    }
}
