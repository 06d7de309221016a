//! Requests that are sent again: a key of the producer's choosing ties all of them to one record.
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
    metadata::MessageMetaData,
    problem::{Problem, ProblemKind},
    receipt::{Durability, ReceivedPayload},
    record_id::RecordId,
};

/// How long a producer may repeat a request under its key. While the record is open, the claim lives on.
pub const CLAIM_LIFE: Duration = Duration::from_hours(24);

/// How long a claim is kept after its life: for as long as it takes at most to renew the claim of an open record, while the
/// tables or reconcile are away.
const CLAIM_KEPT: Duration = Duration::from_hours(7 * 24);

/// Metadata that differs from one sending of a request to the next although the request is the same. Source: CloudEvents,
/// "Distributed Tracing extension".
const TRACING: [&str; 2] = ["traceparent", "tracestate"];

/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// A producer's key, reduced to a digest. Keys of two API keys never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdempotencyKey(Sha256);

impl IdempotencyKey {
    /// The key of an `Idempotency-Key` header. `caller` is the id of the API key, or whatever tells callers apart.
    pub fn of_header(caller: &str, header: &str) -> Result<Self, Problem> {
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
            return Ok(Self::of(&[caller, "key", key]));
        };
        Err(Problem::new(ProblemKind::MalformedRequest, detail))
    }

    /// The key that a CloudEvent is: producers must not use a `source` and `id` twice.
    pub fn of_event(caller: &str, source: &str, id: &str) -> Self {
        Self::of(&[caller, "event", source, id])
    }

    fn of(parts: &[&str]) -> Self {
        // Lengths keep two lists of parts with equal concatenations apart.
        let text: Vec<_> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        Self(Sha256::of(text.concat().as_bytes()))
    }
}

impl std::fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The record's id.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// What the record is, as far as a repeated request must be the same.
    pub fingerprint: Sha256,
    /// The payload that came with the key.
    pub payload: ReceivedPayload,
    /// How the record was durable when it was accepted.
    pub durability: Durability,
    /// When the key may stand for another record, if this one is closed by then.
    pub expires_at: Timestamp,
}

impl Claim {
    /// The claim of a record that is to be accepted.
    pub fn new(message: &InternalMessage, durability: Durability, now: Timestamp) -> Self {
        Self {
            message_id: message.message_id,
            fingerprint: fingerprint(&message.payload, &message.meta_data),
            payload: ReceivedPayload::of(&message.payload),
            durability,
            expires_at: now.after(CLAIM_LIFE),
        }
    }

    /// When the table may remove the claim. Until then, a claim that has outlived its time counts where its record is open.
    pub fn removable_at(&self) -> Timestamp {
        removable_at(self.expires_at)
    }

    /// Whether the claim has outlived its time.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at <= now
    }
}

/// When the table may remove a claim that expires at this time.
pub fn removable_at(expires_at: Timestamp) -> Timestamp {
    expires_at.after(CLAIM_KEPT)
}

/// A claim to be made with an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The key.
    pub key: IdempotencyKey,
    /// What the key is to stand for.
    pub claim: Claim,
    /// The expired claim of a closed record whose place this one takes. Without it, the key must be free.
    pub replaces: Option<Claim>,
}

/// The digest of what makes two requests the same: payload, content type, and metadata but for its tracing extensions.
pub fn fingerprint(payload: &PayloadDescriptor, metadata: &MessageMetaData) -> Sha256 {
    let mut fields = serde_json::to_value(metadata).expect("metadata always serializes");
    if let Value::Object(fields) = &mut fields {
        fields.retain(|name, _| !TRACING.contains(&name.as_str()));
    }
    fields.sort_all_objects();
    let parts = [payload.sha256.to_string(), payload.content_type.clone(), fields.to_string()];
    let text: Vec<_> = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    Sha256::of(text.concat().as_bytes())
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
            fingerprint(&payload, &MessageMetaData::parse(metadata, 0).unwrap())
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
            assert_eq!(problem.kind, ProblemKind::MalformedRequest);
            assert!(problem.detail.contains(advice), "{}", problem.detail);
        }
    }
}
