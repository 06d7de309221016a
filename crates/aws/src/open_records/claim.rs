//! The item of a claim.
//!
//! `expiresAt`, in milliseconds, decides whether a claim has expired. `timeToLive`, in seconds, is the time after which
//! DynamoDB may remove the item. Between the two times, an expired claim still counts if its record is open. Source:
//! Amazon DynamoDB developer guide, "Using time to live (TTL)".

use custody_core::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    idempotency::{self, Claim, IdempotencyKey},
    record_id::RecordId,
    stored_names::attributes::{CLAIM, EXPIRES_AT, IDEMPOTENCY_KEY, MESSAGE_ID, TIME_TO_LIVE},
};

use super::DynamoOpenRecords;
use crate::{
    classify::stage_error,
    conditional_write::{Attributes, outcome_of},
    values::{text, text_of, time, time_of, time_to_live},
};

pub(super) fn encode(key: &IdempotencyKey, claim: &Claim) -> Attributes {
    Attributes::from([
        (IDEMPOTENCY_KEY.to_owned(), text(key)),
        (MESSAGE_ID.to_owned(), text(claim.message_id)),
        (EXPIRES_AT.to_owned(), time(claim.expires_at)),
        (TIME_TO_LIVE.to_owned(), time_to_live(claim.removable_at())),
        (CLAIM.to_owned(), text(serde_json::to_string(claim).expect("a claim always serializes"))),
    ])
}

pub(super) fn decode(item: &Attributes) -> Option<Claim> {
    let claim: Claim = serde_json::from_str(text_of(item, CLAIM)?).ok()?;
    // The attribute `expiresAt` is later than the time in the JSON text if the claim was renewed.
    Some(Claim { expires_at: time_of(item, EXPIRES_AT)?, ..claim })
}

fn operation() -> String {
    "look up an idempotency key".to_owned()
}

pub(super) fn unreadable() -> StageError {
    StageError::new(ErrorName::ServiceRefused, format!("{}: the item is not a claim", operation()))
}

impl DynamoOpenRecords {
    pub(super) async fn find_claim(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
        let read = self
            .client
            .get_item()
            .table_name(&self.claims_table)
            .key(IDEMPOTENCY_KEY, text(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        read.item.map(|item| decode(&item).ok_or_else(unreadable)).transpose()
    }

    pub(super) async fn renew_claim(
        &self,
        key: &IdempotencyKey,
        holder: RecordId,
        until: Timestamp,
    ) -> Result<(), StageError> {
        let seconds = time_to_live(idempotency::removable_at(until));
        let update = self
            .client
            .update_item()
            .table_name(&self.claims_table)
            .key(IDEMPOTENCY_KEY, text(key))
            .update_expression(format!("SET {EXPIRES_AT} = :until, {TIME_TO_LIVE} = :seconds"))
            .condition_expression(format!("{MESSAGE_ID} = :holder AND {EXPIRES_AT} < :until"))
            .expression_attribute_values(":holder", text(holder))
            .expression_attribute_values(":until", time(until))
            .expression_attribute_values(":seconds", seconds)
            .send()
            .await;
        outcome_of(update, || format!("renew the claim of record {holder}")).map(drop)
    }
}
