//! Questions about records, and their answers: one record with all that is known of it, and pages of an index.

use serde::Serialize;
use strum::{Display, EnumString};

use crate::{
    access::SourcePattern, clock::Timestamp, dead_letter::FailureSummary, message::InternalMessage,
    ports::NotedDiscard, record_id::RecordId,
};

/// The attribute that records are looked up by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Every record of a source system.
    Source(String),
    /// Every record of a source's transaction.
    Transaction(String),
}

/// A range of times. Both bounds are inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The earliest time. `None` means no lower bound.
    pub from: Option<Timestamp>,
    /// The latest time. `None` means no upper bound.
    pub to: Option<Timestamp>,
}

impl TimeRange {
    /// Whether the range includes this time.
    pub fn includes(self, time: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time <= to)
    }
}

/// The status of a record in its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, Display, EnumString)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
pub enum RecordStatus {
    /// The record was accepted, and is in progress.
    Received,
    /// The payload is archived and the metadata is stored.
    Completed,
    /// An attempt of the record has failed.
    Failed,
}

/// A question for a page of records. Records are ordered by their ids, newest first: an id begins with the time when the record
/// was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    pub lookup: Lookup,
    pub range: TimeRange,
    /// Only records with this status; `None` for all records.
    pub status: Option<RecordStatus>,
    /// Only records whose `sourceSystemID` matches one of these patterns; `None` for all sources. A page, and the place where the
    /// next page begins, depend on no other record.
    pub sources: Option<Vec<SourcePattern>>,
    /// The page begins with the first record that comes after this one; `None` for the first page.
    pub after: Option<RecordId>,
    /// The maximum number of records on the page, at least one.
    pub limit: usize,
}

/// An entry of an index: the attributes of a record that the index contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexedRecord {
    /// The id of the record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// When the record was received.
    pub received_at: Timestamp,
    /// The state in the record's item.
    pub status: RecordStatus,
    /// The system that sent the record.
    #[serde(rename = "sourceSystemID")]
    pub source_system_id: String,
    /// The id of the transaction in the source system.
    #[serde(rename = "sourceTransactionID")]
    pub source_transaction_id: Option<String>,
    /// The type of the record.
    pub message_type: String,
}

impl PageRequest {
    /// Whether a record matches the status and the sources of the request, and comes after `after`.
    pub fn matches(&self, record: &IndexedRecord) -> bool {
        let is_of_source = |sources: &Vec<SourcePattern>| {
            sources.iter().any(|source| source.matches(&record.source_system_id))
        };
        self.after.is_none_or(|after| record.message_id < after)
            && self.status.is_none_or(|status| record.status == status)
            && self.sources.as_ref().is_none_or(is_of_source)
    }
}

/// A page of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// The records, newest first.
    pub records: Vec<IndexedRecord>,
    /// The id after which the next page begins; `None` if no older record matches. A page may have fewer records than
    /// its limit, and even none, although there is a next page.
    pub next: Option<RecordId>,
}

/// The part of a page that comes from one partition of an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionPage {
    /// The matching records, newest first.
    pub records: Vec<IndexedRecord>,
    /// The smallest id of the oldest time of which all entries were examined, if the partition has older entries. It is no id of a
    /// record.
    pub examined_to: Option<RecordId>,
}

impl RecordPage {
    /// Merges the newest records of all partitions. A record that is older than the last examined entry of some partition may
    /// have unexamined records before it, so it belongs to the next page.
    pub fn merge(partitions: Vec<PartitionPage>, limit: usize) -> Self {
        let frontier = partitions.iter().filter_map(|partition| partition.examined_to).max();
        let mut records: Vec<_> = partitions.into_iter().flat_map(|partition| partition.records).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.message_id));
        if let Some(frontier) = frontier {
            records.retain(|record| record.message_id >= frontier);
        }
        let is_cut = records.len() > limit;
        records.truncate(limit);
        let is_full = records.len() == limit;
        let next = match (records.last(), frontier) {
            (Some(last), _) if is_full && (is_cut || frontier.is_some()) => Some(last.message_id),
            (_, frontier) => frontier,
        };
        Self { records, next }
    }
}

/// The item of a record: everything that the record table has of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordItem {
    /// The message, with the references of the last write.
    pub message: InternalMessage,
    pub status: RecordStatus,
    /// When the metadata was stored.
    pub stored_at: Option<Timestamp>,
    /// When the payload was archived.
    pub archived_at: Option<Timestamp>,
    /// When the record was completed.
    pub completed_at: Option<Timestamp>,
    /// The failure of the last attempt that has failed.
    pub failure: Option<FailureSummary>,
    /// The last decision to discard the record. It counts only if its attempt is the failed one or a later one.
    pub discarded: Option<NotedDiscard>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unix_ms: i64) -> IndexedRecord {
        let received_at = Timestamp::from_unix_ms(unix_ms).unwrap();
        IndexedRecord {
            message_id: RecordId::mint(received_at),
            received_at,
            status: RecordStatus::Completed,
            source_system_id: "s".to_owned(),
            source_transaction_id: None,
            message_type: "t".to_owned(),
        }
    }

    fn partition(times: &[i64], has_more: bool) -> PartitionPage {
        let records: Vec<_> = times.iter().map(|time| record(*time)).collect();
        let examined_to = records.last().filter(|_| has_more).map(|record| record.message_id);
        PartitionPage { records, examined_to }
    }

    fn page(partitions: Vec<PartitionPage>, limit: usize) -> (Vec<i64>, Option<i64>) {
        let page = RecordPage::merge(partitions, limit);
        let times = page.records.iter().map(|record| record.received_at.unix_ms()).collect();
        (times, page.next.map(|next| next.received_at().unix_ms()))
    }

    #[test]
    fn partitions_merge_into_the_newest_of_all_and_report_whether_there_are_more() {
        let all = || vec![partition(&[90, 10], false), partition(&[], false), partition(&[70, 60, 5], false)];
        assert_eq!(page(all(), 3), (vec![90, 70, 60], Some(60)));
        assert_eq!(page(all(), 5), (vec![90, 70, 60, 10, 5], None));
        assert_eq!(page(all(), 9), (vec![90, 70, 60, 10, 5], None));
        assert_eq!(page(Vec::new(), 5), (Vec::new(), None));
    }

    #[test]
    fn no_record_overtakes_the_unexamined_entries_of_another_partition() {
        let partitions = vec![partition(&[90, 80], true), partition(&[95, 20], false)];
        assert_eq!(page(partitions, 9), (vec![95, 90, 80], Some(80)), "20 comes after what follows 80");
        let examined_to = Some(record(50).message_id);
        let nothing_matches = PartitionPage { records: Vec::new(), examined_to };
        assert_eq!(page(vec![nothing_matches.clone(), partition(&[40], false)], 9), (vec![], Some(50)));
        assert_eq!(page(vec![nothing_matches, partition(&[60], false)], 9), (vec![60], Some(50)));
    }

    #[test]
    fn a_range_includes_its_bounds() {
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        let range = TimeRange { from: Some(at(10)), to: Some(at(20)) };
        assert_eq!([9, 10, 20, 21].map(|ms| range.includes(at(ms))), [false, true, true, false]);
        assert!(TimeRange::default().includes(at(0)));
    }
}
