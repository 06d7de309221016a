//! The disagreements that `fsck` finds: all are counted, and the first ones are listed.

use std::{collections::BTreeMap, fmt::Display};

use serde::Serialize;
use strum::IntoStaticStr;

/// Maximum number of listed findings. It bounds the memory of an audit in which millions of records are wrong.
const MAX_LISTED_FINDINGS: usize = 1000;

/// Kind of a disagreement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(const_into_str, serialize_all = "kebab-case")]
pub(super) enum Kind {
    /// A record has been in progress for too long.
    Overdue,
    /// A record is open although it is complete, or discarded.
    NotClosed,
    /// Steps of the handling of a failure are still pending.
    FailureUnfinished,
    /// An acceptance marker is not adopted.
    MarkerNotAdopted,
    /// An item is `RECEIVED`, and the record is not open.
    StuckRecord,
    /// An item is `FAILED`, and the record is neither open nor discarded.
    FailedNotOpen,
    /// A failed record's payload is in no bucket, although its failure reports that it is secure.
    PayloadGone,
    /// A completed record has no object in the archive.
    ItemWithoutObject,
    /// An archived object has neither an item nor an open record nor a marker.
    ObjectWithoutItem,
    /// An object has another digest than its record.
    DigestMismatch,
    /// An object has another size than its record.
    SizeMismatch,
    /// The key of an archived object is of no record.
    ForeignObject,
    /// The record table has an item that cannot be read.
    UnreadableItem,
    /// A store could not be read, so the record was not checked.
    NotChecked,
}

/// A disagreement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// Id of the record, or key of an object or item that belongs to no record.
    pub(super) subject: String,
    pub(super) detail: String,
}

impl Finding {
    pub(super) fn new(kind: Kind, subject: impl Display, detail: impl Into<String>) -> Self {
        Self { kind, subject: subject.to_string(), detail: detail.into() }
    }
}

/// All disagreements of one run of `fsck`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Findings {
    /// Number of disagreements of each kind.
    counts: BTreeMap<Kind, usize>,
    /// The first disagreements, at most a fixed number.
    findings: Vec<Finding>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.kind).or_default() += 1;
        if self.findings.len() < MAX_LISTED_FINDINGS {
            self.findings.push(finding);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.counts.values().sum()
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Kind, usize)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    pub(super) fn shown(&self) -> &[Finding] {
        &self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_are_counted_and_the_first_are_listed() {
        let mut findings = Findings::default();
        assert!(findings.is_empty());
        for i in 0..=MAX_LISTED_FINDINGS {
            findings.add(Finding::new(Kind::Overdue, i, ""));
        }
        findings.add(Finding::new(Kind::NotClosed, "x", ""));
        assert_eq!(
            (findings.count(), findings.shown().len()),
            (MAX_LISTED_FINDINGS + 2, MAX_LISTED_FINDINGS)
        );
        let counts: Vec<_> = findings.counts().collect();
        assert_eq!(counts, [(Kind::Overdue, MAX_LISTED_FINDINGS + 1), (Kind::NotClosed, 1)]);
        let json = serde_json::to_value(&findings).unwrap();
        assert_eq!(json["counts"]["not-closed"], 1);
        assert_eq!(json["findings"][0]["kind"], "overdue");
    }
}
