//! The identity of a record, and every name that derives from it.
//!
//! *Invariant:* storage keys and index partitions are functions of the id alone, so a stage that runs again finds
//! the object that its first run made.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::{Builder, NoContext, Uuid};

use crate::clock::Timestamp;

/// The number of index partitions over which records are spread. DynamoDB accepts 1,000 writes a second in one
/// partition, and an acceptance and a close write to the index once each: 64 partitions have three times the capacity
/// that 10,000 records a second need. Source: Amazon DynamoDB developer guide, "Best practices for designing and using
/// partition keys effectively".
pub const PARTITIONS: u8 = 64;

/// The id of a record: a UUID version 7, which begins with the time it was minted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Uuid);

/// The error for text that is not a [`RecordId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecordId {
    /// Hexadecimal digits and hyphens, but fewer or more than an id has.
    #[error("a messageID has 36 characters, and `{0}` has {n}", n = .0.len())]
    Length(String),
    /// As long as an id, and not one in its only spelling; or text that nobody takes for an id.
    #[error("`{0}` is not a messageID: expected a lower-case, hyphenated UUID version 7")]
    Format(String),
}

impl InvalidRecordId {
    /// Creates the error for this text.
    pub(crate) fn of(text: &str) -> Self {
        let is_part = text.len() != 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let shown = text.chars().take(64).collect();
        if is_part && (1..=64).contains(&text.len()) { Self::Length(shown) } else { Self::Format(shown) }
    }
}

impl RecordId {
    /// Creates a new id for a record received at `now`; the other 74 bits are random.
    pub fn mint(now: Timestamp) -> Self {
        let unix_ms = now.unix_ms().unsigned_abs();
        let nanos = u32::try_from(unix_ms % 1000 * 1_000_000).unwrap_or(0);
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, unix_ms / 1000, nanos)))
    }

    /// Creates the id of a record received at `now` from given bits, in place of the 74 random bits.
    pub fn with_random_bits(now: Timestamp, chance: &[u8; 10]) -> Self {
        Self(Builder::from_unix_timestamp_millis(now.unix_ms().unsigned_abs(), chance).into_uuid())
    }

    /// Returns when the record was received: the time inside the id.
    pub fn received_at(self) -> Timestamp {
        let bytes = self.0.as_bytes();
        let unix_ms = bytes[..6].iter().fold(0_i64, |ms, byte| (ms << 8) | i64::from(*byte));
        // Construction admits only ids whose time is representable.
        Timestamp::from_unix_ms(unix_ms).unwrap_or(Timestamp::from_unix_ms(0).expect("the epoch is in range"))
    }

    /// Returns the partition of this record in an index, `0..PARTITIONS`. It comes from the id's last byte, which is
    /// random.
    pub fn partition(self) -> u8 {
        self.0.as_bytes()[15] % PARTITIONS
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for RecordId {
    type Err = InvalidRecordId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text)
            .ok()
            .map(Self)
            // A record id has exactly one spelling, because keys and execution names are compared as text.
            .filter(|id| id.0.get_version_num() == 7 && id.to_string() == text)
            .filter(|id| id.0.as_bytes()[0] < 0xE0)
            .ok_or_else(|| InvalidRecordId::of(text))
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_partition_derive_from_the_id_alone() {
        let id: RecordId = "019e1f4b-6c00-7abc-8def-0123456789ab".parse().unwrap();
        assert_eq!(id.received_at().to_string(), "2026-05-13T03:04:57.088Z");
        assert_eq!(id.partition(), 0xab % PARTITIONS);
    }

    #[test]
    fn a_minted_id_carries_its_time_and_reads_back() {
        let now = Timestamp::from_unix_ms(1_795_213_260_123).unwrap();
        let id = RecordId::mint(now);
        assert_eq!(id.received_at(), now);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(RecordId::mint(now), id);
    }

    #[test]
    fn another_spelling_or_version_is_no_record_id() {
        for text in [
            "",
            "x",
            "019E1F4B-6C00-7ABC-8DEF-0123456789AB",
            "019e1f4b6c007abc8def0123456789ab",
            "18a9838c-356c-4653-a983-8c356c86535f",
            "ffffffff-ffff-7abc-8def-0123456789ab",
        ] {
            assert!(text.parse::<RecordId>().is_err(), "{text}");
        }
    }
}
