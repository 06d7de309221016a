//! The acceptance of a record with an idempotency key: the open record and the claim are written in one transaction.
//!
//! Only `ConditionalCheckFailed` on the claim decides which record holds a key. Any other transient reason for a
//! cancellation is retried. If no try succeeds, a consistent read of the claim decides. Source: Amazon DynamoDB API
//! reference, `TransactWriteItems`.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use custody_core::{
    digest::Sha256,
    error::{ErrorName, StageError},
    idempotency::{Claim, ClaimRequest},
    open_record::OpenRecord,
    ports::Acceptance,
    stored_names::attributes::{EXPIRES_AT, IDEMPOTENCY_KEY, MESSAGE_ID},
};

use super::{DynamoOpenRecords, claim, item};
use crate::{
    classify::stage_error,
    values::{text, time},
};

/// The number of tries of a transaction that is cancelled for transient reasons.
const TRIES: u32 = 4;

/// The base of the pause before the second try. Each further pause is twice as long.
const PAUSE: Duration = Duration::from_millis(20);

/// The meaning of a cancelled transaction.
enum Cancelled {
    /// The key has a claim: the claim of this record, made by an earlier call whose reply was lost, or the claim of
    /// another record.
    Held(Claim),
    /// The record is already open.
    Open,
    /// The cancellation has a transient reason.
    Passing,
}

impl DynamoOpenRecords {
    pub(super) async fn put_with_claim(
        &self,
        record: &OpenRecord,
        request: &ClaimRequest,
    ) -> Result<Acceptance, StageError> {
        let operation = || format!("accept record {} with its idempotency key", record.id());
        let items = self.items(record, request)?;
        let mut last = None;
        for tried in 0..TRIES {
            if tried > 0 {
                // Two requests with one key must not retry at the same time. The jitter comes from the id of the
                // record.
                let share = u32::from(record.id().partition()) + 1;
                tokio::time::sleep(PAUSE * (1 << (tried - 1)) * share / 32).await;
            }
            let sent = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .client_request_token(token(record, request))
                .send()
                .await;
            let Err(error) = sent else { return Ok(Acceptance::Accepted) };
            match cancelled(&error) {
                Some(Cancelled::Held(held)) => return Ok(acceptance_for(held, record)),
                Some(Cancelled::Open) => return Ok(Acceptance::AlreadyAccepted),
                Some(Cancelled::Passing) => {
                    last = Some(stage_error(&error, ErrorName::TableUnavailable, operation()));
                }
                // A time-out, a rejected request or an unavailable service. The read of the claim below may show
                // whether the transaction was made.
                None => {
                    last = Some(stage_error(&error, ErrorName::TableUnavailable, operation()));
                    break;
                }
            }
        }
        match self.find_claim(&request.key).await {
            Ok(Some(held)) if Some(&held) != request.replaces.as_ref() => Ok(acceptance_for(held, record)),
            _ => Err(last.unwrap_or_else(|| StageError::new(ErrorName::TableUnavailable, operation()))),
        }
    }

    fn items(
        &self,
        record: &OpenRecord,
        request: &ClaimRequest,
    ) -> Result<Vec<TransactWriteItem>, StageError> {
        let open = Put::builder()
            .table_name(&self.open_table)
            .set_item(Some(item::encode(record)))
            .condition_expression(format!("attribute_not_exists({MESSAGE_ID})"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let mut claim = Put::builder()
            .table_name(&self.claims_table)
            .set_item(Some(claim::encode(&request.key, &request.claim)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        claim = match &request.replaces {
            None => claim.condition_expression(format!("attribute_not_exists({IDEMPOTENCY_KEY})")),
            // DynamoDB may remove an expired claim at any moment, so an absent claim is also accepted.
            Some(replaced) => claim
                .condition_expression(
                    format!("attribute_not_exists({IDEMPOTENCY_KEY}) OR ({MESSAGE_ID} = :replaced AND {EXPIRES_AT} = :expired)"),
                )
                .expression_attribute_values(":replaced", text(replaced.message_id))
                .expression_attribute_values(":expired", time(replaced.expires_at)),
        };
        [open, claim]
            .into_iter()
            .map(|put| {
                let put = put.build().map_err(|error| {
                    StageError::new(ErrorName::InvalidInput, "describe an acceptance").caused_by(error)
                })?;
                Ok(TransactWriteItem::builder().put(put).build())
            })
            .collect()
    }
}

/// Returns the idempotency token of this exact transaction. DynamoDB recognizes a repetition by it for ten minutes.
fn token(record: &OpenRecord, request: &ClaimRequest) -> String {
    let replaced = request.replaces.as_ref().map(|claim| (claim.message_id, claim.expires_at.unix_ms()));
    // Two completions of one upload accept the same record at different times.
    let text = format!("{} {} {} {replaced:?}", record.id(), record.started_at.unix_ms(), request.key);
    Sha256::of(text.as_bytes()).to_string()[..36].to_owned()
}

fn acceptance_for(held: Claim, record: &OpenRecord) -> Acceptance {
    if held.message_id == record.id() { Acceptance::AlreadyAccepted } else { Acceptance::KeyTaken(held) }
}

/// Returns the meaning of an error if the transaction was cancelled or is in progress. `None` if the outcome of the
/// transaction is not known.
fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Cancelled> {
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            meaning(cancelled.cancellation_reasons())
        }
        TransactWriteItemsError::TransactionInProgressException(_) => Some(Cancelled::Passing),
        _ => None,
    }
}

fn meaning(reasons: &[CancellationReason]) -> Option<Cancelled> {
    const FAILED: Option<&str> = Some("ConditionalCheckFailed");
    let [open, claim] = reasons else { return None };
    if claim.code() == FAILED {
        // If the reason does not contain the item, the consistent read at the end decides.
        let held = claim.item.as_ref().and_then(claim::decode);
        return Some(held.map_or(Cancelled::Passing, Cancelled::Held));
    }
    if open.code() == FAILED {
        return Some(Cancelled::Open);
    }
    let passes = |code: &str| {
        matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
    };
    [open, claim].into_iter().filter_map(CancellationReason::code).any(passes).then_some(Cancelled::Passing)
}

#[cfg(test)]
mod tests {
    use custody_core::{receipt::Durability, testing::samples};

    use super::*;

    fn reason(code: &str) -> CancellationReason {
        CancellationReason::builder().code(code).build()
    }

    #[test]
    fn only_a_failed_condition_on_the_claim_decides_about_a_key() {
        let record = samples::open_record(&samples::message(b"payload"));
        let claim = Claim::new(&record.message, Durability::Replicated, record.started_at);
        let key = custody_core::idempotency::IdempotencyKey::of_header("caller", "key").unwrap();
        let held = CancellationReason::builder()
            .code("ConditionalCheckFailed")
            .set_item(Some(claim::encode(&key, &claim)))
            .build();
        assert!(
            matches!(meaning(&[reason("None"), held.clone()]), Some(Cancelled::Held(found)) if found == claim)
        );
        assert!(matches!(meaning(&[reason("ConditionalCheckFailed"), held]), Some(Cancelled::Held(_))));
        assert!(matches!(
            meaning(&[reason("ConditionalCheckFailed"), reason("None")]),
            Some(Cancelled::Open)
        ));
        for code in ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"] {
            assert!(matches!(meaning(&[reason("None"), reason(code)]), Some(Cancelled::Passing)), "{code}");
            assert!(matches!(meaning(&[reason(code), reason("None")]), Some(Cancelled::Passing)), "{code}");
        }
        assert!(meaning(&[reason("ValidationError"), reason("None")]).is_none());
        assert!(meaning(&[]).is_none());
    }

    #[test]
    fn a_token_belongs_to_one_exact_request() {
        let record = samples::open_record(&samples::message(b"payload"));
        let claim = Claim::new(&record.message, Durability::Replicated, record.started_at);
        let key = |text| custody_core::idempotency::IdempotencyKey::of_header("caller", text).unwrap();
        let request = ClaimRequest { key: key("a"), claim: claim.clone(), replaces: None };
        let tokens = [
            token(&record, &request),
            token(&record, &ClaimRequest { replaces: Some(claim), ..request.clone() }),
            token(&record, &ClaimRequest { key: key("b"), ..request.clone() }),
            token(&samples::open_record(&samples::message(b"payload")), &request),
        ];
        assert_eq!(token(&record, &request), tokens[0]);
        assert!(tokens.iter().all(|token| token.len() == 36));
        assert_eq!(std::collections::BTreeSet::from(tokens).len(), 4);
    }
}
