//! Questions to the record table in DynamoDB.
//!
//! The index `BySourceSystem` spreads the records of one source over several partitions. A page reads each of these
//! partitions and merges the results.

use std::{collections::VecDeque, time::Duration};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use custody_core::{
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{NotedDiscard, RecordQueries},
    record_id::RecordId,
    record_query::{
        IndexedRecord, Lookup, PageRequest, PartitionPage, RecordItem, RecordPage, RecordStatus, TimeRange,
    },
    stored_names::attributes::{
        MESSAGE_ID, MESSAGE_TYPE, RECEIVED_AT, SOURCE_PARTITION, SOURCE_SYSTEM_ID, SOURCE_TRANSACTION_ID,
        STATUS,
    },
};
use futures_util::future::try_join_all;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    classify::stage_error, conditional_write::Attributes, dynamodb::source_partitions, item_state::time,
};

/// The number of entries of one partition that a page examines before it ends with fewer records than its limit. A question for
/// a rare status would otherwise read a whole partition.
const MAX_EXAMINED: usize = 2_000;

/// The number of entries in one answer of DynamoDB if some entries may not match. Many small answers would take longer than the
/// caller's time limit.
const FILTERED_PAGE_SIZE: usize = 500;

/// The record table, for reads only.
#[derive(Clone, Debug)]
pub struct RecordIndex {
    pub(crate) client: Client,
    pub(crate) table: String,
}

/// The attributes of an item beside its message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemDetails {
    status: RecordStatus,
    #[serde(rename = "metaDataStoredAt")]
    metadata_stored_at: Option<Timestamp>,
    archived_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    failure: Option<FailureSummary>,
    discarded: Option<NotedDiscard>,
}

/// Returns the name of the index of a lookup, the name of its partition key, and the partitions that contain the records.
fn partitions_of(lookup: &Lookup) -> (&'static str, &'static str, Vec<String>) {
    match lookup {
        Lookup::Source(id) => ("BySourceSystem", SOURCE_PARTITION, source_partitions(id)),
        Lookup::Transaction(id) => ("BySourceTransaction", SOURCE_TRANSACTION_ID, vec![id.clone()]),
    }
}

/// Returns both bounds as text, in the format of the index: texts sort in the order of their times.
fn bounds(range: TimeRange, after: Option<RecordId>) -> [String; 2] {
    let epoch = Timestamp::from_unix_ms(0).expect("the epoch is in range");
    let latest = range.to.unwrap_or(epoch.after(Duration::MAX));
    let to = after.map_or(latest, |after| latest.min(after.received_at()));
    [range.from.unwrap_or(epoch), to].map(|bound| bound.to_string())
}

impl RecordIndex {
    /// Creates the questions to the record table `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Reads the item of a record as JSON, consistently, with its fields in the order of their names. `None` if there is no item.
    pub async fn item_as_json(&self, id: RecordId) -> Result<Option<Value>, StageError> {
        let Some(item) = self.attributes(id).await? else { return Ok(None) };
        let mut item: Value = decode(item, &item_operation(id))?;
        item.sort_all_objects();
        Ok(Some(item))
    }

    async fn attributes(&self, id: RecordId) -> Result<Option<Attributes>, StageError> {
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(MESSAGE_ID, AttributeValue::S(id.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, item_operation(id)))?;
        Ok(read.item)
    }

    /// Reads the newest matching records of one partition of an index.
    async fn partition_page(
        &self,
        index: &str,
        attribute: &str,
        partition: String,
        request: &PageRequest,
    ) -> Result<PartitionPage, StageError> {
        let operation = format!("look up the records of {partition} in index {index}");
        let [from, to] = bounds(request.range, request.after);
        // DynamoDB refuses a range that ends before it begins.
        if from > to {
            return Ok(PartitionPage::default());
        }
        let is_filtered = request.status.is_some() || request.sources.is_some();
        let page_size = if is_filtered { FILTERED_PAGE_SIZE } else { request.limit.saturating_add(1) };
        let mut reading = PartitionReading::new(request);
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
            .limit(i32::try_from(page_size).unwrap_or(i32::MAX))
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation.as_str()))?;
            for item in page.items() {
                reading.examine(indexed(item).ok_or_else(|| unreadable(&operation))?);
            }
            let has_more = page.last_evaluated_key().is_some();
            if !has_more {
                return Ok(reading.end());
            }
            if reading.is_enough() {
                return Ok(reading.stop());
            }
        }
        Ok(reading.end())
    }
}

/// The state of reading a partition, newest entries first. The index does not order entries of the same time, so entries count
/// as examined once an older entry was read.
struct PartitionReading<'a> {
    request: &'a PageRequest,
    /// The matching records that are older than no unread entry.
    records: Vec<IndexedRecord>,
    /// The entries of the last time.
    last: VecDeque<IndexedRecord>,
    examined: usize,
    examined_to: Option<RecordId>,
}

impl<'a> PartitionReading<'a> {
    fn new(request: &'a PageRequest) -> Self {
        Self { request, records: Vec::new(), last: VecDeque::new(), examined: 0, examined_to: None }
    }

    fn examine(&mut self, entry: IndexedRecord) {
        if self.last.front().is_some_and(|last| last.received_at != entry.received_at) {
            self.settle();
        }
        self.last.push_back(entry);
    }

    /// Counts the entries of the last time as examined.
    fn settle(&mut self) {
        let request = self.request;
        for entry in self.last.drain(..) {
            self.examined += 1;
            self.examined_to = Some(RecordId::with_random_bits(entry.received_at, &[0; 10]));
            if request.matches(&entry) {
                self.records.push(entry);
            }
        }
    }

    /// Whether the page needs no further entries of this partition.
    fn is_enough(&self) -> bool {
        self.records.len() > self.request.limit || self.examined >= MAX_EXAMINED
    }

    /// Ends the reading at the end of the partition.
    fn end(mut self) -> PartitionPage {
        self.settle();
        PartitionPage { records: self.records, examined_to: None }
    }

    /// Ends the reading before the end of the partition. Entries of the last time belong to the next page.
    fn stop(self) -> PartitionPage {
        PartitionPage { records: self.records, examined_to: self.examined_to }
    }
}

impl RecordQueries for RecordIndex {
    async fn item(&self, id: RecordId) -> Result<Option<RecordItem>, StageError> {
        let operation = item_operation(id);
        let Some(attributes) = self.attributes(id).await? else { return Ok(None) };
        let message: InternalMessage = decode(attributes.clone(), &operation)?;
        let details: ItemDetails = decode(attributes, &operation)?;
        Ok(Some(RecordItem {
            message,
            status: details.status,
            stored_at: details.metadata_stored_at,
            archived_at: details.archived_at,
            completed_at: details.completed_at,
            failure: details.failure,
            discarded: details.discarded,
        }))
    }

    async fn page(&self, request: &PageRequest) -> Result<RecordPage, StageError> {
        let (index, attribute, partitions) = partitions_of(&request.lookup);
        let read =
            partitions.into_iter().map(|partition| self.partition_page(index, attribute, partition, request));
        Ok(RecordPage::merge(try_join_all(read).await?, request.limit))
    }
}

fn item_operation(id: RecordId) -> String {
    format!("read the item of record {id}")
}

fn decode<T: DeserializeOwned>(item: Attributes, operation: &str) -> Result<T, StageError> {
    serde_dynamo::from_item(item).map_err(|error| unreadable(operation).caused_by(error))
}

fn unreadable(operation: &str) -> StageError {
    StageError::new(
        ErrorName::ServiceRefused,
        format!("{operation}: an entry is not in the format of a record"),
    )
}

fn indexed(item: &Attributes) -> Option<IndexedRecord> {
    let text = |name: &str| Some(item.get(name)?.as_s().ok()?.clone());
    Some(IndexedRecord {
        message_id: text(MESSAGE_ID)?.parse().ok()?,
        received_at: time(item, RECEIVED_AT)?,
        status: text(STATUS)?.parse().ok()?,
        source_system_id: text(SOURCE_SYSTEM_ID)?,
        source_transaction_id: text(SOURCE_TRANSACTION_ID),
        message_type: text(MESSAGE_TYPE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(unix_ms: i64, status: RecordStatus) -> IndexedRecord {
        let received_at = Timestamp::from_unix_ms(unix_ms).unwrap();
        IndexedRecord {
            message_id: RecordId::mint(received_at),
            received_at,
            status,
            source_system_id: "s".to_owned(),
            source_transaction_id: None,
            message_type: "t".to_owned(),
        }
    }

    fn request(limit: usize) -> PageRequest {
        let (lookup, range) = (Lookup::Source("s".to_owned()), TimeRange::default());
        let status = Some(RecordStatus::Completed);
        PageRequest { lookup, range, status, sources: None, after: None, limit }
    }

    #[test]
    fn a_source_is_looked_up_in_all_of_its_partitions_and_a_transaction_in_one() {
        let (_, attribute, partitions) = partitions_of(&Lookup::Source("a#b".to_owned()));
        assert_eq!((attribute, partitions.len()), ("sourcePartition", 16));
        assert_eq!((&*partitions[0], &*partitions[15]), ("a#b#00", "a#b#15"));
        let (_, attribute, partitions) = partitions_of(&Lookup::Transaction("tx".to_owned()));
        assert_eq!((attribute, partitions), ("sourceTransactionID", vec!["tx".to_owned()]));
    }

    #[test]
    fn a_range_without_bounds_is_all_of_time_in_text_order() {
        let [from, to] = bounds(TimeRange::default(), None);
        assert_eq!(from, "1970-01-01T00:00:00.000Z");
        assert!(to.starts_with("9999-12-30T"), "{to}");
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        let until = TimeRange { from: None, to: Some(at(20)) };
        assert_eq!(bounds(until, Some(RecordId::mint(at(10))))[1], at(10).to_string());
        assert_eq!(bounds(until, Some(RecordId::mint(at(30))))[1], at(20).to_string());
    }

    #[test]
    fn a_reading_that_stops_leaves_all_entries_of_its_last_time_to_the_next_page() {
        use RecordStatus::{Completed, Received};
        let request = request(1);
        let mut reading = PartitionReading::new(&request);
        let entries = [(30, Completed), (20, Received), (20, Completed), (10, Completed)];
        let entries = entries.map(|(time, status)| record(time, status));
        for entry in entries.clone() {
            reading.examine(entry);
        }
        assert!(reading.is_enough());
        let page = reading.stop();
        assert_eq!(page.records, [entries[0].clone(), entries[2].clone()]);
        let examined_to = page.examined_to.unwrap();
        assert_eq!(examined_to.received_at(), entries[1].received_at, "also of an entry that does not match");
        assert!(examined_to <= entries[1].message_id.min(entries[2].message_id));
        assert!(entries.iter().all(|entry| entry.message_id != examined_to), "no id of a record");
    }

    #[test]
    fn a_reading_ends_before_it_has_read_a_whole_partition_in_vain() {
        let request = request(10);
        let mut reading = PartitionReading::new(&request);
        for time in (0..MAX_EXAMINED).rev() {
            assert!(!reading.is_enough());
            reading.examine(record(i64::try_from(time).unwrap(), RecordStatus::Failed));
        }
        reading.examine(record(0, RecordStatus::Failed));
        reading.settle();
        assert!(reading.is_enough());
        let page = reading.stop();
        assert!(page.records.is_empty() && page.examined_to.is_some());
    }
}
