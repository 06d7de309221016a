//! Requests that are sent again: a key of the producer's choosing ties all of them to one record.
//!
//! A request first *claims* its key for the id it would give the record. Whoever comes later with the same key finds the
//! claim and takes over its id. So a crash between claim and storage blocks nobody, and requests at the same time store
//! the same record: everything from there on is conditional on the id.

use serde::{Deserialize, Serialize};

use crate::{
    digest::Sha256,
    message::PayloadDescriptor,
    problem::{Problem, ProblemKind},
    receipt::{Durability, ReceivedPayload},
    record_id::{RecordId, SHARDS},
};

/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 256;

/// A producer's key, reduced to a digest. Keys of two API keys never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// The cache shard of the key. Its record is minted into the same shard, so that one transaction covers both.
    pub fn shard(self) -> u8 {
        self.0.first_byte() % SHARDS
    }
}

impl std::fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The record's id.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// The payload that came with the key first.
    pub payload: ReceivedPayload,
    /// How the record was stored; `None` as long as that is not known.
    pub durability: Option<Durability>,
}

impl Claim {
    /// A claim for a record that is not stored yet.
    pub fn new(message_id: RecordId, payload: &PayloadDescriptor) -> Self {
        Self { message_id, payload: ReceivedPayload::of(payload), durability: None }
    }

    /// The same claim, for a record that is stored.
    #[must_use]
    pub fn stored(&self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
