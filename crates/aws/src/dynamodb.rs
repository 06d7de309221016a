//! The record table in DynamoDB.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    Client,
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    dead_letter::FailureSummary,
    error::{ErrorName, StageError},
    message::{InternalMessage, MetadataReference},
    ports::{CompletionTimes, Discard, FailedItem, ItemState, NotedDiscard, RecordTable, StoredMetadata},
    record_id::RecordId,
    stored_names::{
        SOURCE_PARTITIONS,
        attributes::{
            ARCHIVED_AT, ATTEMPT, COMPLETED_AT, DATE_TIME, DISCARDED, FAILED_AT, FAILURE, MESSAGE_ID,
            MESSAGE_TYPE, METADATA_STORED_AT, PAYLOAD, REBUILT_AT, REDRIVE, SOURCE_PARTITION,
            SOURCE_SYSTEM_ID, SOURCE_TRANSACTION_ID, STATUS, STORAGE_CONTEXT,
        },
        source_partition_key,
    },
};
use serde::Serialize;

use crate::{
    classify::stage_error,
    conditional_write::{Attributes, ConditionalWrite, outcome_of},
    item_batches::items_of,
    item_state::{state, time},
};

/// The record table, held in DynamoDB: one item per record.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    table: String,
}

impl DynamoTable {
    /// Creates the adapter of the record table `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Returns the attributes that identify a record in every state: the message, and the separate attributes that the
    /// indexes need.
    fn identity(message: &InternalMessage) -> Result<Attributes, StageError> {
        let mut item: Attributes =
            serde_dynamo::to_item(message).map_err(|error| unencodable(message, error))?;
        let metadata = &message.metadata;
        let transaction = metadata.source_transaction_id().map(|id| (SOURCE_TRANSACTION_ID, id));
        for (name, value) in [
            (MESSAGE_TYPE, metadata.message_type()),
            (SOURCE_SYSTEM_ID, metadata.source_system_id()),
            (DATE_TIME, metadata.date_time()),
        ]
        .into_iter()
        .chain(transaction)
        {
            item.insert(name.to_owned(), AttributeValue::S(value.to_owned()));
        }
        item.insert(
            SOURCE_PARTITION.to_owned(),
            text(source_partition(metadata.source_system_id(), message.message_id)),
        );
        // The identity of a record does not depend on the number of its attempts. The end of an attempt writes it.
        item.remove(REDRIVE);
        Ok(item)
    }
}

/// Returns the partition of the index `BySourceSystem` that contains a record.
fn source_partition(source_system_id: &str, id: RecordId) -> String {
    source_partition_key(source_system_id, id.partition() % SOURCE_PARTITIONS)
}

/// Returns every partition of the index `BySourceSystem` that may contain records of a source.
pub(crate) fn source_partitions(source_system_id: &str) -> Vec<String> {
    (0..SOURCE_PARTITIONS).map(|number| source_partition_key(source_system_id, number)).collect()
}

impl DynamoTable {
    /// Stores the time when the metadata was stored, in an item that the failure stage wrote. Returns the time that was
    /// stored first.
    async fn note_stored(&self, id: RecordId, stored_at: Timestamp) -> Result<Timestamp, StageError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(MESSAGE_ID, text(id))
            .update_expression(format!(
                "SET {METADATA_STORED_AT} = if_not_exists({METADATA_STORED_AT}, :now)"
            ))
            .condition_expression(format!("attribute_exists({MESSAGE_ID})"))
            .expression_attribute_values(":now", text(stored_at))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|error| {
                stage_error(&error, ErrorName::TableUnavailable, format!("store when item {id} was stored"))
            })?;
        Ok(update.attributes.as_ref().and_then(|new| time(new, METADATA_STORED_AT)).unwrap_or(stored_at))
    }
}

fn attribute(message: &InternalMessage, value: &impl Serialize) -> Result<AttributeValue, StageError> {
    serde_dynamo::to_attribute_value(value).map_err(|error| unencodable(message, error))
}

fn unencodable(message: &InternalMessage, error: serde_dynamo::Error) -> StageError {
    StageError::new(ErrorName::InvalidInput, format!("encode the item of record {}", message.message_id))
        .caused_by(error)
}

fn text(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

/// Returns the digest of the payload in a stored item.
pub(crate) fn stored_digest(item: &Attributes) -> Option<&str> {
    item.get(PAYLOAD)?.as_m().ok()?.get("sha256")?.as_s().ok().map(String::as_str)
}

impl RecordTable for DynamoTable {
    async fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> Result<StoredMetadata, StageError> {
        let id = message.message_id;
        let reference = MetadataReference { table: self.table.clone(), primary_key: id };
        let mut item = Self::identity(message)?;
        item.insert(STATUS.to_owned(), text("RECEIVED"));
        item.insert(METADATA_STORED_AT.to_owned(), text(stored_at));
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(format!("attribute_not_exists({MESSAGE_ID})"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let existing = match put {
            Ok(_) => return Ok(StoredMetadata { reference, stored_at }),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => failed.item.clone(),
                _ => {
                    return Err(stage_error(&error, ErrorName::TableUnavailable, format!("store item {id}")));
                }
            },
        };
        let digest = message.payload.sha256.to_string();
        if let Some(existing) = existing.filter(|item| stored_digest(item) == Some(digest.as_str())) {
            let stored_at = match time(&existing, METADATA_STORED_AT) {
                Some(first) => first,
                None => self.note_stored(id, stored_at).await?,
            };
            return Ok(StoredMetadata { reference, stored_at });
        }
        Err(StageError::new(
            ErrorName::MetadataConflict,
            format!("store item {id}: it exists with another payload"),
        ))
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        let id = message.message_id;
        let mut assignments = vec![
            "#status = :completed".to_owned(),
            format!("{STORAGE_CONTEXT} = :storage"),
            format!("{ARCHIVED_AT} = :archived_at"),
            format!("{COMPLETED_AT} = :completed_at"),
        ];
        let mut request = self.client.update_item().table_name(&self.table).key(MESSAGE_ID, text(id));
        if let Some(redrive) = &message.redrive {
            assignments.push(format!("{REDRIVE} = :redrive"));
            request = request.expression_attribute_values(":redrive", attribute(message, redrive)?);
        }
        let update = request
            .update_expression(format!("SET {}", assignments.join(", ")))
            .condition_expression(format!("{PAYLOAD}.sha256 = :sha256 AND #status <> :completed"))
            .expression_attribute_names("#status", STATUS)
            .expression_attribute_values(":completed", text("COMPLETED"))
            .expression_attribute_values(":storage", attribute(message, &message.storage_context)?)
            .expression_attribute_values(":archived_at", text(times.archived_at))
            .expression_attribute_values(":completed_at", text(times.completed_at))
            .expression_attribute_values(":sha256", text(message.payload.sha256))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let existing = match outcome_of(update, || format!("complete item {id}"))? {
            ConditionalWrite::Written => return Ok(times),
            ConditionalWrite::ConditionFalse(existing) => existing,
        };
        // The item was completed by an earlier call, or it is not the item of this record.
        if stored_digest(&existing) == Some(message.payload.sha256.to_string().as_str()) {
            return Ok(CompletionTimes {
                archived_at: time(&existing, ARCHIVED_AT).unwrap_or(times.archived_at),
                completed_at: time(&existing, COMPLETED_AT).unwrap_or(times.completed_at),
            });
        }
        Err(StageError::new(
            ErrorName::ItemMissing,
            format!("complete item {id}: the table has no item of this record"),
        ))
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        let id = message.message_id;
        let mut request = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(MESSAGE_ID, text(id))
            .condition_expression(format!(
                "attribute_not_exists(#status) OR (#status <> :completed AND {PAYLOAD}.sha256 = :sha256 \
                 AND (attribute_not_exists({FAILURE}) OR {FAILURE}.{ATTEMPT} < :attempt))"
            ))
            .expression_attribute_values(":attempt", AttributeValue::N(failure.attempt.to_string()))
            .expression_attribute_values(":sha256", text(message.payload.sha256))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_names("#status", STATUS)
            .expression_attribute_values(":completed", text("COMPLETED"));
        let mut assignments = vec![
            "#status = :failed".to_owned(),
            format!("{FAILED_AT} = :failed_at"),
            format!("{FAILURE} = :failure"),
            format!("{STORAGE_CONTEXT} = :storage"),
        ];
        request = request
            .expression_attribute_values(":failed", text("FAILED"))
            .expression_attribute_values(":failed_at", text(failure.failed_at))
            .expression_attribute_values(":failure", attribute(message, failure)?)
            .expression_attribute_values(":storage", attribute(message, &message.storage_context)?);
        if let Some(redrive) = &message.redrive {
            assignments.push(format!("{REDRIVE} = :redrive"));
            request = request.expression_attribute_values(":redrive", attribute(message, redrive)?);
        }
        // If the metadata stage never wrote an item, this update creates a complete one.
        let identity = Self::identity(message)?;
        let rest = identity.into_iter().filter(|(name, _)| name != MESSAGE_ID && name != STORAGE_CONTEXT);
        for (i, (name, value)) in rest.enumerate() {
            assignments.push(format!("#i{i} = if_not_exists(#i{i}, :i{i})"));
            request = request
                .expression_attribute_names(format!("#i{i}"), name)
                .expression_attribute_values(format!(":i{i}"), value);
        }
        let update = request.update_expression(format!("SET {}", assignments.join(", "))).send().await;
        Ok(match outcome_of(update, || format!("mark item {id} as failed"))? {
            ConditionalWrite::Written => FailedItem::Failed,
            ConditionalWrite::ConditionFalse(item)
                if stored_digest(&item) == Some(message.payload.sha256.to_string().as_str()) =>
            {
                match state(&item) {
                    ItemState::Completed(_) => FailedItem::AlreadyCompleted,
                    // The item already contains a failure of this attempt. The first failure that was stored remains.
                    ItemState::Failed { attempt, .. } if attempt == failure.attempt => FailedItem::Failed,
                    ItemState::Received | ItemState::Failed { .. } => FailedItem::Superseded,
                }
            }
            ConditionalWrite::ConditionFalse(_) => {
                return Err(StageError::new(
                    ErrorName::MetadataConflict,
                    format!("mark item {id} as failed: it has another payload"),
                ));
            }
        })
    }

    async fn discard(&self, attempt: Attempt, discard: &Discard) -> Result<bool, StageError> {
        let operation = || format!("discard attempt {attempt}");
        let note = NotedDiscard { attempt: attempt.number(), discard: discard.clone() };
        let note: AttributeValue = serde_dynamo::to_attribute_value(note)
            .map_err(|error| StageError::new(ErrorName::InvalidInput, operation()).caused_by(error))?;
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(MESSAGE_ID, text(attempt.record))
            .update_expression(format!("SET {DISCARDED} = :discarded"))
            .condition_expression(format!(
                "#status = :failed AND {FAILURE}.{ATTEMPT} <= :attempt \
                 AND (attribute_not_exists({DISCARDED}) OR {DISCARDED}.{ATTEMPT} < :attempt)"
            ))
            .expression_attribute_names("#status", STATUS)
            .expression_attribute_values(":attempt", AttributeValue::N(attempt.number().to_string()))
            .expression_attribute_values(":failed", text("FAILED"))
            .expression_attribute_values(":discarded", note)
            .send()
            .await;
        Ok(matches!(outcome_of(update, operation)?, ConditionalWrite::Written))
    }

    async fn note_rebuilt(&self, id: RecordId, at: Timestamp) -> Result<(), StageError> {
        let operation = || format!("note the rebuild of item {id}");
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(MESSAGE_ID, text(id))
            .update_expression(format!("SET {REBUILT_AT} = if_not_exists({REBUILT_AT}, :at)"))
            .condition_expression(format!("attribute_exists({MESSAGE_ID})"))
            .expression_attribute_values(":at", text(at))
            .send()
            .await;
        match outcome_of(update, operation)? {
            ConditionalWrite::Written => Ok(()),
            ConditionalWrite::ConditionFalse(_) => Err(StageError::new(ErrorName::ItemMissing, operation())),
        }
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        let projection = format!(
            "{MESSAGE_ID}, #status, {FAILURE}, {DISCARDED}, {STORAGE_CONTEXT}, {METADATA_STORED_AT}, {ARCHIVED_AT}, {COMPLETED_AT}"
        );
        let items = items_of(&self.client, &self.table, records, &projection).await?;
        let state_of =
            |item: &Attributes| Some((item.get(MESSAGE_ID)?.as_s().ok()?.parse().ok()?, state(item)));
        Ok(items.iter().filter_map(state_of).collect())
    }
}
