//! The names under which things are stored: keys in the cache and in S3, names of executions, partitions of indexes, and
//! [`attributes`] of items.
//!
//! *Invariant:* every name is a function of the thing that it names, so that a repeated write or start has the same name as
//! the first.
//!
//! | store | name | what |
//! | --- | --- | --- |
//! | cache | `rec:<messageID>` | payload |
//! | archive | `YYYY/MM/DD/HH/MM/<messageID>` | payload |
//! | | `manifests/<archive key>-<attempt number>.json` | manifest |
//! | failed bucket | `records/<archive key>` | preserved payload |
//! | | `corrupted/<archive key>/<sha256>` | bytes that are not those in the receipt |
//! | | `rejected/YYYY/MM/DD/HH/MM/<request id>.json` | rejected request; expires |
//! | | `requests/YYYY/MM/DD/HH/MM/<request id>.json` | request that no store could take |
//! | | `discarded/YYYY/MM/DD/<name>-<unix ms>.json` | evidence of a discard |
//! | | `discarded/YYYY/MM/DD/<name>-<unix ms>.decision.json` | what the discard has decided |
//! | staging bucket | `uploads/<messageID>` | payload of an upload; expires |
//! | marker bucket | `pending/<2 hexadecimal digits>/<attempt>` | acceptance marker |
//! | workflow | `<messageID>-<attempt>-<start>` | execution |
//! | access table | `<kind>:<id>` | credential |
//! | upload table | `<messageID>` | upload |
//! | | `key:<idempotency key>` | upload of an idempotency key |
//! | open-record table | `<kind>#<partition>` | partition of the index |
//! | record table | `<sourceSystemID>#<partition>` | partition of the index `BySourceSystem` |

pub mod attributes;

use crate::{
    attempt::Attempt, clock::Timestamp, digest::Sha256, idempotency::IdempotencyKey, open_record::OpenKind,
    record_id::RecordId,
};

/// The key prefix of manifests in the archive.
pub const MANIFEST_PREFIX: &str = "manifests/";

/// The key prefix of the evidence of discards in the failed bucket.
pub const EVIDENCE_PREFIX: &str = "discarded/";

/// The key prefix of requests that their producers must change. These objects expire: the template's lifecycle rule
/// names this prefix.
pub const REJECTED_PREFIX: &str = "rejected/";

/// The key prefix of requests that no store could take. These objects do not expire.
pub const UNSTORED_REQUESTS_PREFIX: &str = "requests/";

/// The key prefix of acceptance markers.
pub const MARKER_PREFIX: &str = "pending/";

/// The number of partitions of the index `BySourceSystem` over which the records of one source are spread: enough for
/// 16,000 writes a second.
pub const SOURCE_PARTITIONS: u8 = 16;

impl RecordId {
    /// Returns the key of the record's payload in the cache.
    pub fn cache_key(self) -> String {
        format!("rec:{self}")
    }

    /// Returns the key of the record's payload in the archive, with the time of reception in UTC.
    pub fn archive_key(self) -> String {
        format!("{}/{self}", self.received_at().format(MINUTE))
    }

    /// Returns the key of a failed record's payload in the failed bucket.
    pub fn preserved_key(self) -> String {
        format!("records/{}", self.archive_key())
    }

    /// Returns the key of an upload's payload in the staging bucket.
    pub fn staged_key(self) -> String {
        format!("uploads/{self}")
    }

    /// Returns the key of bytes with digest `found` that were stored as this record's payload, in the failed bucket.
    pub fn corrupted_key(self, found: Sha256) -> String {
        format!("corrupted/{}/{found}", self.archive_key())
    }
}

impl IdempotencyKey {
    /// Returns the key of the item in the upload table that names the upload of this idempotency key.
    pub fn upload_name(&self) -> String {
        format!("key:{self}")
    }
}

impl Attempt {
    /// Returns the name of the execution with start number `start` of this attempt.
    pub fn execution_name(self, start: u32) -> String {
        format!("{self}-{start}")
    }

    /// Returns the key of the attempt's acceptance marker. Its two digits are the last digits of the record's id, which are
    /// random. While the open-record table is unavailable, they spread the writes of markers over 256 prefixes: S3 accepts
    /// 3,500 writes a second in each. Source: Amazon S3 user guide, "Best practices design patterns: optimizing Amazon S3
    /// performance".
    pub fn marker_key(self) -> String {
        let id = self.record.to_string();
        format!("{MARKER_PREFIX}{}/{self}", &id[id.len() - 2..])
    }

    /// Returns the key of the attempt's manifest in the archive.
    pub fn manifest_key(self) -> String {
        format!("{MANIFEST_PREFIX}{}-{}.json", self.record.archive_key(), self.number())
    }

    /// Returns the attempt whose manifest has this key, or `None` if no manifest has such a key.
    pub fn of_manifest_key(key: &str) -> Option<Self> {
        let attempt: Self = key.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()?;
        (attempt.manifest_key() == key).then_some(attempt)
    }

    /// Returns the attempt whose marker has this key, or `None` if no marker has such a key.
    pub fn of_marker_key(key: &str) -> Option<Self> {
        let attempt: Self = key.strip_prefix(MARKER_PREFIX)?.split_once('/')?.1.parse().ok()?;
        (attempt.marker_key() == key).then_some(attempt)
    }
}

impl OpenKind {
    /// Returns the key of one partition of the index of open records.
    pub fn partition_key(self, partition: u8) -> String {
        format!("{}#{partition:02}", self.as_str())
    }
}

/// Returns the key of a stored request in the failed bucket. `prefix` is [`REJECTED_PREFIX`] or
/// [`UNSTORED_REQUESTS_PREFIX`].
pub fn request_key(prefix: &str, rejected_at: Timestamp, name: &str) -> String {
    format!("{prefix}{}/{name}.json", rejected_at.format(MINUTE))
}

/// Returns the key of the evidence of a discard in the failed bucket. It contains the time, so that two discards of one dead
/// letter have two keys: a key must always have one content.
pub fn evidence_key(name: &str, discarded_at: Timestamp) -> String {
    format!("{EVIDENCE_PREFIX}{}/{name}-{}.json", discarded_at.format("%Y/%m/%d"), discarded_at.unix_ms())
}

/// Returns the key of the decision that the discard with this evidence led to, beside the evidence.
pub fn decision_key(evidence_key: &str) -> String {
    format!("{}{DECISION_SUFFIX}", evidence_key.trim_end_matches(".json"))
}

/// The end of keys of decisions.
pub const DECISION_SUFFIX: &str = ".decision.json";

/// Returns the key of one partition of the index `BySourceSystem`.
pub fn source_partition_key(source_system_id: &str, partition: u8) -> String {
    format!("{source_system_id}#{partition:02}")
}

/// The part of keys that orders them by minute.
const MINUTE: &str = "%Y/%m/%d/%H/%M";

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019e1f4b-6c00-7abc-8def-0123456789ab";

    #[test]
    fn every_name_is_the_documented_one() {
        let id: RecordId = ID.parse().unwrap();
        let minute = "2026/05/13/03/04";
        assert_eq!(id.cache_key(), format!("rec:{ID}"));
        assert_eq!(id.archive_key(), format!("{minute}/{ID}"));
        assert_eq!(id.preserved_key(), format!("records/{minute}/{ID}"));
        assert_eq!(id.staged_key(), format!("uploads/{ID}"));
        let found = Sha256::of(b"");
        assert_eq!(id.corrupted_key(found), format!("corrupted/{minute}/{ID}/{found}"));
        assert_eq!(Attempt::new(id, 12).execution_name(3), format!("{ID}-12-3"));
        assert_eq!(Attempt::new(id, 2).marker_key(), format!("pending/ab/{ID}-2"));
        assert_eq!(Attempt::new(id, 2).manifest_key(), format!("manifests/{minute}/{ID}-2.json"));
        assert_eq!(OpenKind::InProgress.partition_key(7), "inProgress#07");
        assert_eq!(OpenKind::Failed.partition_key(63), "failed#63");
        assert_eq!(source_partition_key("loan-scoring", 3), "loan-scoring#03");
        let at = id.received_at();
        assert_eq!(request_key(REJECTED_PREFIX, at, "r-1"), format!("rejected/{minute}/r-1.json"));
        let evidence = evidence_key("m-1", at);
        assert_eq!(evidence, format!("discarded/2026/05/13/m-1-{}.json", at.unix_ms()));
        assert_eq!(
            decision_key(&evidence),
            format!("discarded/2026/05/13/m-1-{}.decision.json", at.unix_ms())
        );
    }

    #[test]
    fn only_the_key_of_a_manifest_names_an_attempt() {
        let attempt = Attempt::new(ID.parse().unwrap(), 12);
        assert_eq!(Attempt::of_manifest_key(&attempt.manifest_key()), Some(attempt));
        let payload = attempt.record.archive_key();
        for key in ["", &payload, &format!("manifests/{payload}"), &format!("manifests/{ID}-12.json")] {
            assert_eq!(Attempt::of_manifest_key(key), None, "{key}");
        }
    }

    #[test]
    fn only_the_key_of_a_marker_names_an_attempt() {
        let attempt = Attempt::new(ID.parse().unwrap(), 2);
        assert_eq!(Attempt::of_marker_key(&attempt.marker_key()), Some(attempt));
        for key in
            ["", "pending/", &format!("pending/{ID}-2"), &format!("pending/00/{ID}-2"), &format!("ab/{ID}-2")]
        {
            assert_eq!(Attempt::of_marker_key(key), None, "{key}");
        }
    }
}
