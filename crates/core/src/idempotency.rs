//! Repeated requests: a producer chooses an idempotency key, which ties all repetitions of a request to one record.
//!
//! A claim is written in the same transaction as the acceptance of its record, so a key stands for a record if and only
//! if the record was accepted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clock::Timestamp,
    digest::Sha256,
    message::{InternalMessage, PayloadDescriptor},
    metadata::MessageMetadata,
    problem::{Problem, ProblemKind},
    receipt::{Durability, ReceivedPayload},
    record_id::RecordId,
};

/// How long a producer may repeat a request under its key. Reconcile extends the claim while the record is open.
pub const CLAIM_LIFETIME: Duration = Duration::from_hours(24);

/// How long an expired claim stays in the table: the longest time for which the renewal of an open record's claim may
/// be delayed, while the tables or reconcile are not available.
const CLAIM_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Metadata fields that may differ between repetitions of the same request. Source: CloudEvents, "Distributed Tracing
/// extension".
const TRACING: [&str; 2] = ["traceparent", "tracestate"];

/// The maximum length of an `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// A producer's idempotency key, reduced to a digest. The principal is part of the digest, so that the keys of two
/// principals are never equal, and a principal that gets a new API key keeps its idempotency keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdempotencyKey(Sha256);

impl IdempotencyKey {
    /// Creates the key of an `Idempotency-Key` header. `principal` is the name of the caller in its access entry.
    pub fn of_header(principal: &str, header: &str) -> Result<Self, Problem> {
        let key = header.trim();
        let detail = if key.is_empty() {
            "Idempotency-Key is empty; send a value that is unique to the record, or no such header"
                .to_owned()
        } else if key.len() > MAX_KEY_BYTES {
            format!(
                "Idempotency-Key has {} bytes and the limit is {MAX_KEY_BYTES}; send a shorter one",
                key.len()
            )
        } else if !key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            "Idempotency-Key has characters that are not printable ASCII; send letters, digits and punctuation".to_owned()
        } else {
            return Ok(Self::of(&[principal, "key", key]));
        };
        Err(Problem::new(ProblemKind::InvalidHeader, detail))
    }

    /// Creates the key of a CloudEvent from its `source` and `id`, which a producer must not use for two events.
    pub fn of_event(principal: &str, source: &str, id: &str) -> Self {
        Self::of(&[principal, "event", source, id])
    }

    /// Creates the key of an upload without another key. It makes completing the upload twice the acceptance of one record.
    pub fn of_upload(principal: &str, id: RecordId) -> Self {
        Self::of(&[principal, "upload", &id.to_string()])
    }

    fn of(parts: &[&str]) -> Self {
        // The lengths distinguish two lists of parts whose concatenations are equal.
        let text: Vec<_> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        Self(Sha256::of(text.concat().as_bytes()))
    }
}

impl std::fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The claim of an idempotency key: the record that the key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The id of the record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// The digest of those parts of the request that must be equal in a repeated request.
    pub fingerprint: Sha256,
    /// The payload of the record.
    pub payload: ReceivedPayload,
    /// How the record was durable when it was accepted.
    pub durability: Durability,
    /// When the claim expires. From then on, the key may stand for another record, if this record is closed.
    pub expires_at: Timestamp,
}

impl Claim {
    /// Creates the claim of a record that is about to be accepted.
    pub fn new(message: &InternalMessage, durability: Durability, now: Timestamp) -> Self {
        Self {
            message_id: message.message_id,
            fingerprint: fingerprint(&message.payload, &message.metadata),
            payload: ReceivedPayload::of(&message.payload),
            durability,
            expires_at: now.after(CLAIM_LIFETIME),
        }
    }

    /// When the table may remove the claim. Until then, an expired claim is still valid while its record is open.
    pub fn removable_at(&self) -> Timestamp {
        removable_at(self.expires_at)
    }

    /// Whether the claim has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

/// Returns when the table may remove a claim that expires at `expires_at`.
pub fn removable_at(expires_at: Timestamp) -> Timestamp {
    expires_at.after(CLAIM_RETENTION)
}

/// A claim that is written together with an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The key.
    pub key: IdempotencyKey,
    /// The claim to write for the key.
    pub claim: Claim,
    /// The expired claim of a closed record, which the new claim replaces. If `None`, the key must be free.
    pub replaces: Option<Claim>,
}

/// Returns the digest of the parts that two equal requests have in common: payload, content type, and metadata without
/// its tracing extensions.
pub fn fingerprint(payload: &PayloadDescriptor, metadata: &MessageMetadata) -> Sha256 {
    let parts = [payload.sha256.to_string(), payload.content_type.clone(), canonical_text(metadata)];
    let text: Vec<_> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    Sha256::of(text.concat().as_bytes())
}

/// Returns the text that the metadata of equal requests have in common: sorted, and without tracing extensions.
pub(crate) fn canonical_text(metadata: &MessageMetadata) -> String {
    let mut fields = serde_json::to_value(metadata).expect("metadata always serializes");
    if let Value::Object(fields) = &mut fields {
        fields.retain(|name, _| !TRACING.contains(&name.as_str()));
    }
    fields.sort_all_objects();
    fields.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_covers_payload_type_and_metadata_but_not_their_order_or_tracing() {
        let fingerprint_of = |digest: &[u8], content_type: &str, metadata: &str| {
            let payload = PayloadDescriptor {
                sha256: Sha256::of(digest),
                size_bytes: 1,
                content_type: content_type.to_owned(),
                encoding: crate::message::PayloadEncoding::Base64,
            };
            fingerprint(&payload, &MessageMetadata::parse(metadata, 0).unwrap())
        };
        let metadata =
            r#"{"messageType":"t","sourceSystemID":"s","dateTime":"2026-01-31T09:30:00Z","a":{"b":1,"c":2}}"#;
        let reordered = r#"{"a":{"c":2,"b":1},"dateTime":"2026-01-31T09:30:00Z","sourceSystemID":"s",
            "messageType":"t","traceparent":"00-1","tracestate":"x"}"#;
        let first = fingerprint_of(b"x", "text/plain", metadata);
        assert_eq!(first, fingerprint_of(b"x", "text/plain", reordered));
        assert_ne!(first, fingerprint_of(b"y", "text/plain", metadata));
        assert_ne!(first, fingerprint_of(b"x", "text/html", metadata));
        assert_ne!(first, fingerprint_of(b"x", "text/plain", &metadata.replace("\"b\":1", "\"b\":3")));
    }

    #[test]
    fn a_claim_lives_a_day_and_stays_in_the_table_for_another_week() {
        let now = Timestamp::parse("2026-01-31T09:30:00Z").unwrap();
        let claim = Claim::new(&crate::testing::samples::message(b"payload"), Durability::Archived, now);
        assert_eq!(claim.expires_at.to_string(), "2026-02-01T09:30:00.000Z");
        assert_eq!(claim.removable_at().to_string(), "2026-02-08T09:30:00.000Z");
        let just_before = Timestamp::from_unix_ms(claim.expires_at.unix_ms() - 1).unwrap();
        assert!(!claim.is_expired(just_before) && claim.is_expired(claim.expires_at));
    }

    #[test]
    fn a_key_has_at_most_256_printable_characters_and_its_text_is_its_digest() {
        let key = IdempotencyKey::of_header("caller", &"k".repeat(MAX_KEY_BYTES)).unwrap();
        assert_eq!(key.to_string().len(), 64, "the hexadecimal digits of a SHA-256");
        assert_eq!(serde_json::to_value(key).unwrap(), key.to_string());
        for (header, detail) in [
            (" ".to_owned(), "empty"),
            ("k".repeat(MAX_KEY_BYTES + 1), "the limit is"),
            ("ü".to_owned(), "printable"),
        ] {
            let problem = IdempotencyKey::of_header("caller", &header).unwrap_err();
            assert!(problem.detail.contains(detail), "{}", problem.detail);
        }
    }

    #[test]
    fn keys_of_two_callers_or_kinds_or_spellings_never_meet() {
        let header = |caller, key| IdempotencyKey::of_header(caller, key).unwrap();
        assert_eq!(header("a", "k"), header("a", " k "));
        let keys = [
            header("a", "k"),
            header("b", "k"),
            header("ak", "k"),
            IdempotencyKey::of_event("a", "s", "id"),
            IdempotencyKey::of_event("a", "si", "d"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != key), "{i}");
        }
    }

    #[test]
    fn an_unusable_key_is_refused_with_advice() {
        for (key, advice) in [("  ", "unique"), ("ä", "ASCII"), (&*"x".repeat(257), "shorter")] {
            let problem = IdempotencyKey::of_header("a", key).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::InvalidHeader);
            assert!(problem.detail.contains(advice), "{}", problem.detail);
        }
    }
}
