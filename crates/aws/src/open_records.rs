//! Open records and claims in DynamoDB.
//!
//! The key of the open-record table is the `messageID`, which spreads writes evenly. Its index `Due` contains only
//! keys: several partitions for each of the two kinds of open records, sorted by `lookAt`. The key of the idempotency
//! table is the digest of the idempotency key.

mod claim;
mod item;
mod transaction;

use aws_sdk_dynamodb::{
    Client,
    operation::update_item::builders::UpdateItemFluentBuilder,
    types::{ReturnValue, ReturnValuesOnConditionCheckFailure, Select},
};
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    error::{ErrorName, StageError},
    idempotency::{Claim, ClaimRequest, IdempotencyKey},
    open_record::{FailureStep, IndexListing, OpenKind, OpenRecord},
    ports::{Acceptance, IdempotencyClaims, OpenRecords, Turn},
    record_id::{PARTITIONS, RecordId},
    stored_names::attributes::{
        ATTEMPT, LOOK_AT, LOOKS, MESSAGE_ID, MISSING_SINCE, PARTITION, PENDING_STEPS, REDRIVE_AT, STARTED_AT,
        STARTS, STATE,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    classify::stage_error,
    conditional_write::{ConditionalWrite, outcome_of},
    values::{number, text, time, time_of},
};

/// The name of the index in which reconcile finds the open records that are due.
pub const DUE_INDEX: &str = "Due";

/// The number of partitions of the index that are queried at once.
const CONCURRENT_QUERIES: usize = 16;

/// The open-record table and the idempotency table.
#[derive(Clone, Debug)]
pub struct DynamoOpenRecords {
    client: Client,
    open_table: String,
    claims_table: String,
}

impl DynamoOpenRecords {
    /// Creates the adapter of open records in `open_table` and of claims in `claims_table`.
    pub fn new(client: Client, open_table: String, claims_table: String) -> Self {
        Self { client, open_table, claims_table }
    }

    /// Begins an update of the open record of an attempt. The caller's condition compares the current attempt with
    /// `:attempt`.
    fn update(&self, attempt: Attempt) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.open_table)
            .key(MESSAGE_ID, text(attempt.record))
            .expression_attribute_values(":attempt", number(attempt.number()))
    }

    async fn put_without_claim(&self, record: &OpenRecord) -> Result<Acceptance, StageError> {
        let operation = || format!("accept record {}", record.id());
        let put = self
            .client
            .put_item()
            .table_name(&self.open_table)
            .set_item(Some(item::encode(record)))
            .condition_expression(format!("attribute_not_exists({MESSAGE_ID})"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome_of(put, operation)? {
            ConditionalWrite::Written => Ok(Acceptance::Accepted),
            ConditionalWrite::ConditionFalse(existing) => {
                item::expect_same_record(&existing, record).map(|()| Acceptance::AlreadyAccepted)
            }
        }
    }

    async fn partition(
        &self,
        kind: OpenKind,
        partition: u8,
        limit: usize,
    ) -> Result<IndexListing, StageError> {
        let operation = || format!("list the open records of partition {}", kind.partition_key(partition));
        let mut pages = self
            .client
            .query()
            .table_name(&self.open_table)
            .index_name(DUE_INDEX)
            .key_condition_expression("#partition = :partition")
            .expression_attribute_names("#partition", PARTITION)
            .expression_attribute_values(":partition", text(kind.partition_key(partition)))
            .select(Select::AllProjectedAttributes)
            .into_paginator()
            .send();
        let mut listing = IndexListing::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
            for found in page.items() {
                if listing.entries.len() == limit {
                    listing.truncated = true;
                    return Ok(listing);
                }
                listing.entries.push(item::index_entry(found).ok_or_else(|| item::unreadable(&operation()))?);
            }
        }
        Ok(listing)
    }
}

impl OpenRecords for DynamoOpenRecords {
    async fn accept(
        &self,
        record: &OpenRecord,
        claim: Option<&ClaimRequest>,
    ) -> Result<Acceptance, StageError> {
        match claim {
            None => self.put_without_claim(record).await,
            Some(claim) => self.put_with_claim(record, claim).await,
        }
    }

    async fn find(&self, id: RecordId) -> Result<Option<OpenRecord>, StageError> {
        let operation = || format!("read open record {id}");
        let read = self
            .client
            .get_item()
            .table_name(&self.open_table)
            .key(MESSAGE_ID, text(id))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        read.item.map(|found| item::decode(&found, &operation())).transpose()
    }

    async fn list(&self, kind: OpenKind, limit: usize) -> Result<IndexListing, StageError> {
        let share = limit.div_ceil(usize::from(PARTITIONS));
        let mut all: IndexListing = stream::iter(0..PARTITIONS)
            .map(|partition| self.partition(kind, partition, share))
            .buffer_unordered(CONCURRENT_QUERIES)
            .try_fold(IndexListing::default(), async |mut all, listing| {
                all.entries.extend(listing.entries);
                all.truncated |= listing.truncated;
                Ok(all)
            })
            .await?;
        all.entries.sort_unstable();
        all.truncated |= all.entries.len() > limit;
        all.entries.truncate(limit);
        Ok(all)
    }

    async fn take_turn(&self, seen: &OpenRecord, turn: Turn) -> Result<bool, StageError> {
        let operation = || format!("take the turn of open record {}", seen.id());
        let counted = turn.start.map(|_| format!(", {STARTS} = {STARTS} + :one, {STARTED_AT} = :now"));
        let assignments =
            format!("SET {LOOK_AT} = :next, {LOOKS} = {LOOKS} + :one{}", counted.unwrap_or_default());
        let forget = if turn.is_missing { String::new() } else { format!(" REMOVE {MISSING_SINCE}") };
        let mut update = self
            .update(seen.attempt())
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":state", text(seen.kind().as_str()))
            .expression_attribute_values(":seen", time(seen.look_at))
            .expression_attribute_values(":next", time(turn.look_at))
            .expression_attribute_values(":one", number(1));
        if let Some(now) = turn.start {
            update = update.expression_attribute_values(":now", time(now));
        }
        let update = update
            .update_expression(assignments + &forget)
            .condition_expression(format!("{ATTEMPT} = :attempt AND {LOOK_AT} = :seen AND #state = :state"))
            .send()
            .await;
        Ok(matches!(outcome_of(update, operation)?, ConditionalWrite::Written))
    }

    async fn note_missing(
        &self,
        attempt: Attempt,
        now: Timestamp,
        look_at: Timestamp,
    ) -> Result<Option<Timestamp>, StageError> {
        let operation = || format!("store since when the payload of attempt {attempt} is missing");
        let update = self
            .update(attempt)
            .update_expression(format!(
                "SET {MISSING_SINCE} = if_not_exists({MISSING_SINCE}, :now), {LOOK_AT} = :next"
            ))
            .condition_expression(format!("{ATTEMPT} = :attempt"))
            .expression_attribute_values(":now", time(now))
            .expression_attribute_values(":next", time(look_at))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await;
        match update {
            Ok(updated) => {
                let since = updated.attributes.as_ref().and_then(|new| time_of(new, MISSING_SINCE));
                Ok(Some(since.unwrap_or(now)))
            }
            Err(error) => outcome_of::<(), _>(Err(error), operation).map(|_| None),
        }
    }

    async fn fail(&self, failed: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let attempt = failed.attempt();
        let operation = || format!("mark attempt {attempt} as failed");
        let put = self
            .client
            .put_item()
            .table_name(&self.open_table)
            .set_item(Some(item::encode(failed)))
            .condition_expression(format!("{ATTEMPT} = :attempt AND #state = :state"))
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":attempt", number(attempt.number()))
            .expression_attribute_values(":state", text(OpenKind::InProgress.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome_of(put, operation)? {
            ConditionalWrite::Written => Ok(Some(failed.clone())),
            ConditionalWrite::ConditionFalse(existing) if existing.is_empty() => Ok(None),
            ConditionalWrite::ConditionFalse(existing) => {
                let existing = item::decode(&existing, &operation())?;
                Ok((existing.attempt() == attempt).then_some(existing))
            }
        }
    }

    async fn set_pending_steps(
        &self,
        attempt: Attempt,
        pending_steps: &[FailureStep],
        look_at: Timestamp,
    ) -> Result<(), StageError> {
        let update = self
            .update(attempt)
            .update_expression(format!("SET {PENDING_STEPS} = :steps, {LOOK_AT} = :next"))
            .condition_expression(format!("{ATTEMPT} = :attempt AND #state = :state"))
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":state", text(OpenKind::Failed.as_str()))
            .expression_attribute_values(":steps", item::steps(pending_steps))
            .expression_attribute_values(":next", time(look_at))
            .send()
            .await;
        outcome_of(update, || format!("store the pending steps of attempt {attempt}")).map(drop)
    }

    async fn note_redrive(&self, attempt: Attempt, due: Option<Timestamp>) -> Result<(), StageError> {
        let mut update = self
            .update(attempt)
            .condition_expression(format!("{ATTEMPT} = :attempt AND #state = :state"))
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":state", text(OpenKind::Failed.as_str()));
        update = match due {
            Some(due) => update
                .update_expression(format!("SET {REDRIVE_AT} = :due"))
                .expression_attribute_values(":due", time(due)),
            None => update.update_expression(format!("REMOVE {REDRIVE_AT}")),
        };
        outcome_of(update.send().await, || format!("note the redrive of attempt {attempt}")).map(drop)
    }

    async fn redrive(&self, next: &OpenRecord) -> Result<Option<OpenRecord>, StageError> {
        let attempt = next.attempt();
        let operation = || format!("begin attempt {attempt}");
        let put = self
            .client
            .put_item()
            .table_name(&self.open_table)
            .set_item(Some(item::encode(next)))
            .condition_expression(format!("{ATTEMPT} = :before AND #state = :state"))
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":before", number(attempt.number().saturating_sub(1)))
            .expression_attribute_values(":state", text(OpenKind::Failed.as_str()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match outcome_of(put, operation)? {
            ConditionalWrite::Written => Ok(Some(next.clone())),
            ConditionalWrite::ConditionFalse(existing) if existing.is_empty() => Ok(None),
            ConditionalWrite::ConditionFalse(existing) => item::decode(&existing, &operation()).map(Some),
        }
    }

    async fn close(&self, attempt: Attempt) -> Result<(), StageError> {
        let delete = self
            .client
            .delete_item()
            .table_name(&self.open_table)
            .key(MESSAGE_ID, text(attempt.record))
            .condition_expression(format!("attribute_not_exists({MESSAGE_ID}) OR {ATTEMPT} = :attempt"))
            .expression_attribute_values(":attempt", number(attempt.number()))
            .send()
            .await;
        outcome_of(delete, || format!("close attempt {attempt}")).map(drop)
    }
}

impl IdempotencyClaims for DynamoOpenRecords {
    async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        self.find_claim(key).await
    }

    async fn renew(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> Result<(), StageError> {
        self.renew_claim(key, holder, until).await
    }
}
