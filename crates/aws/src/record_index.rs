//! Queries of the record table, for people who search for records.
//!
//! The index `BySourceSystem` spreads the records of one source over several partitions. A query reads each of these
//! partitions and merges the results by time.

use std::time::Duration;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use custody_core::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    record_id::RecordId,
    stored_names::attributes::{
        MESSAGE_ID, MESSAGE_TYPE, RECEIVED_AT, SOURCE_PARTITION, SOURCE_SYSTEM_ID, SOURCE_TRANSACTION_ID,
        STATUS,
    },
};
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::Value;

use crate::{
    classify::stage_error,
    conditional_write::Attributes,
    dynamodb::{source_partitions, time},
};

/// The record table, for reads only.
#[derive(Clone, Debug)]
pub struct RecordIndex {
    pub(crate) client: Client,
    pub(crate) table: String,
}

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

/// An entry of an index: the attributes of a record that the index contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexedRecord {
    /// The record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// The time when the record was received.
    pub received_at: Timestamp,
    /// The state in the record's item.
    pub status: String,
    /// The system that sent the record.
    #[serde(rename = "sourceSystemID")]
    pub source_system_id: String,
    /// The id of the transaction in the source system.
    #[serde(rename = "sourceTransactionID")]
    pub source_transaction_id: Option<String>,
    /// The type of the record.
    pub message_type: String,
}

/// The result of a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FoundRecords {
    /// The records, newest first.
    pub records: Vec<IndexedRecord>,
    /// Whether older records match too.
    pub truncated: bool,
}

impl Lookup {
    /// Returns the name of the index, the name of its partition key, and the partitions that contain the records.
    fn partitions(&self) -> (&'static str, &'static str, Vec<String>) {
        match self {
            Self::Source(id) => ("BySourceSystem", SOURCE_PARTITION, source_partitions(id)),
            Self::Transaction(id) => ("BySourceTransaction", SOURCE_TRANSACTION_ID, vec![id.clone()]),
        }
    }
}

impl TimeRange {
    /// Returns both bounds as text, in the format of the index: texts sort in the order of their times.
    fn ends(self) -> [String; 2] {
        let epoch = Timestamp::from_unix_ms(0).expect("the epoch is in range");
        [self.from.unwrap_or(epoch), self.to.unwrap_or(epoch.after(Duration::MAX))].map(|end| end.to_string())
    }
}

impl RecordIndex {
    /// Creates the queries of the record table `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Finds the newest records of a lookup, at most `limit`. The index is eventually consistent: a new record may be
    /// absent for a moment.
    pub async fn find(
        &self,
        lookup: &Lookup,
        range: TimeRange,
        limit: usize,
    ) -> Result<FoundRecords, StageError> {
        let (index, attribute, partitions) = lookup.partitions();
        // One record more than `limit` is requested, to learn whether more records match.
        let asked = partitions
            .into_iter()
            .map(|partition| self.newest_of(index, attribute, partition, range, limit.saturating_add(1)));
        Ok(merge(try_join_all(asked).await?, limit))
    }

    /// Reads the item of a record as JSON, consistently. `None` if there is no item.
    pub async fn item(&self, id: RecordId) -> Result<Option<Value>, StageError> {
        let operation = || format!("read the item of record {id}");
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(MESSAGE_ID, AttributeValue::S(id.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        read.item
            .map(serde_dynamo::from_item)
            .transpose()
            .map_err(|error| StageError::new(ErrorName::ServiceRefused, operation()).caused_by(error))
    }

    /// Reads the newest records of one partition of an index.
    async fn newest_of(
        &self,
        index: &str,
        attribute: &str,
        partition: String,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<IndexedRecord>, StageError> {
        let operation = format!("look up the records of {partition} in index {index}");
        let [from, to] = range.ends();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .key_condition_expression(format!(
                "#attribute = :partition AND {RECEIVED_AT} BETWEEN :from AND :to"
            ))
            .expression_attribute_names("#attribute", attribute)
            .expression_attribute_values(":partition", AttributeValue::S(partition))
            .expression_attribute_values(":from", AttributeValue::S(from))
            .expression_attribute_values(":to", AttributeValue::S(to))
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .into_paginator()
            .send();
        let mut records = Vec::new();
        while records.len() < limit
            && let Some(page) = pages.next().await
        {
            let page =
                page.map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation.as_str()))?;
            for item in page.items() {
                let unreadable = || {
                    let text = format!("{operation}: an entry is not in the format of a record");
                    StageError::new(ErrorName::ServiceRefused, text)
                };
                records.push(indexed(item).ok_or_else(unreadable)?);
            }
        }
        Ok(records)
    }
}

/// Merges the records of all partitions, and returns the newest `limit` of them.
fn merge(partitions: Vec<Vec<IndexedRecord>>, limit: usize) -> FoundRecords {
    let mut records: Vec<_> = partitions.into_iter().flatten().collect();
    records.sort_by_key(|record| std::cmp::Reverse((record.received_at, record.message_id)));
    let truncated = records.len() > limit;
    records.truncate(limit);
    FoundRecords { records, truncated }
}

fn indexed(item: &Attributes) -> Option<IndexedRecord> {
    let text = |name: &str| Some(item.get(name)?.as_s().ok()?.clone());
    Some(IndexedRecord {
        message_id: text(MESSAGE_ID)?.parse().ok()?,
        received_at: time(item, RECEIVED_AT)?,
        status: text(STATUS)?,
        source_system_id: text(SOURCE_SYSTEM_ID)?,
        source_transaction_id: text(SOURCE_TRANSACTION_ID),
        message_type: text(MESSAGE_TYPE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unix_ms: i64) -> IndexedRecord {
        let received_at = Timestamp::from_unix_ms(unix_ms).unwrap();
        IndexedRecord {
            message_id: RecordId::mint(received_at),
            received_at,
            status: "COMPLETED".to_owned(),
            source_system_id: "s".to_owned(),
            source_transaction_id: None,
            message_type: "t".to_owned(),
        }
    }

    fn times(found: &FoundRecords) -> Vec<i64> {
        found.records.iter().map(|record| record.received_at.unix_ms()).collect()
    }

    #[test]
    fn partitions_merge_into_the_newest_of_all_and_tell_whether_there_are_more() {
        let partitions =
            || vec![vec![record(90), record(10)], vec![], vec![record(70), record(60), record(5)]];
        let found = merge(partitions(), 3);
        assert_eq!((times(&found), found.truncated), (vec![90, 70, 60], true));
        let found = merge(partitions(), 5);
        assert_eq!((times(&found), found.truncated), (vec![90, 70, 60, 10, 5], false));
        assert_eq!(merge(Vec::new(), 5), FoundRecords::default());
    }

    #[test]
    fn a_source_is_looked_up_in_all_of_its_partitions_and_a_transaction_in_one() {
        let (_, attribute, partitions) = Lookup::Source("a#b".to_owned()).partitions();
        assert_eq!((attribute, partitions.len()), ("sourcePartition", 16));
        assert_eq!((&*partitions[0], &*partitions[15]), ("a#b#00", "a#b#15"));
        let (_, attribute, partitions) = Lookup::Transaction("tx".to_owned()).partitions();
        assert_eq!((attribute, partitions), ("sourceTransactionID", vec!["tx".to_owned()]));
    }

    #[test]
    fn a_range_without_ends_is_all_of_time_in_text_order() {
        let [from, to] = TimeRange::default().ends();
        assert_eq!(from, "1970-01-01T00:00:00.000Z");
        assert!(to.starts_with("9999-12-30T"), "{to}");
    }
}
