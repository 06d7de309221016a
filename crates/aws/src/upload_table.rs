//! Uploads in DynamoDB.
//!
//! The upload table has two items for an upload: the upload itself under its id, and the id under its idempotency key. Both are
//! written in one transaction, so that a key never names an upload that does not exist. Both expire by `timeToLive`; the code that
//! reads them checks the expiry, because DynamoDB may remove an item late.

use std::time::Duration;

use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use custody_core::{
    clock::Timestamp,
    error::{ErrorName, StageError},
    idempotency::IdempotencyKey,
    ports::Uploads,
    record_id::RecordId,
    stored_names::attributes::{DESCRIPTION, EXPIRES_AT, LEASED_UNTIL, MESSAGE_ID, TIME_TO_LIVE, UPLOAD},
    upload::Upload,
};

use crate::{
    classify::stage_error,
    conditional_write::{Attributes, ConditionalWrite, outcome_of},
    values::{text, text_of, time, time_to_live},
};

/// The number of tries of a transaction that another one on the same key has cancelled.
const TRIES: u32 = 4;

/// The pause before the second try. Each further pause is twice as long.
const PAUSE: Duration = Duration::from_millis(20);

/// The upload table, in which a begun upload lives for a day.
#[derive(Clone, Debug)]
pub struct DynamoUploads {
    client: Client,
    table: String,
}

/// Why a transaction was not made.
enum Refused {
    /// The key has this upload.
    KeyTaken(RecordId),
    /// Another transaction was in progress, or the service was not available.
    Transient(StageError),
}

impl DynamoUploads {
    /// Creates the adapter of the upload table `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    async fn put(&self, upload: &Upload, now: Timestamp) -> Result<Result<(), Refused>, StageError> {
        let operation = || format!("begin upload {}", upload.message_id);
        let sent = self
            .client
            .transact_write_items()
            .transact_items(item(self.upload_item(upload), &operation())?)
            .transact_items(item(self.key_item(upload, now), &operation())?)
            .send()
            .await;
        let Err(error) = sent else { return Ok(Ok(())) };
        let mut failure = stage_error(&error, ErrorName::TableUnavailable, operation());
        match cancelled(&error) {
            Some(Cancelled::KeyTaken(holder)) => Ok(Err(Refused::KeyTaken(holder))),
            Some(Cancelled::Passing) => {
                failure.name = ErrorName::TableUnavailable;
                Ok(Err(Refused::Transient(failure)))
            }
            None => Err(failure),
        }
    }

    fn upload_item(&self, upload: &Upload) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        let description = serde_json::to_string(upload).expect("an upload always serializes");
        let item = Attributes::from([
            (UPLOAD.to_owned(), text(upload.message_id)),
            (DESCRIPTION.to_owned(), text(description)),
            (TIME_TO_LIVE.to_owned(), time_to_live(upload.expires_at)),
        ]);
        Put::builder().table_name(&self.table).set_item(Some(item))
    }

    fn key_item(&self, upload: &Upload, now: Timestamp) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        let item = Attributes::from([
            (UPLOAD.to_owned(), text(upload.key.upload_name())),
            (MESSAGE_ID.to_owned(), text(upload.message_id)),
            (EXPIRES_AT.to_owned(), time(upload.expires_at)),
            (TIME_TO_LIVE.to_owned(), time_to_live(upload.expires_at)),
        ]);
        Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(format!("attribute_not_exists({UPLOAD}) OR {EXPIRES_AT} <= :now"))
            .expression_attribute_values(":now", time(now))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}

impl Uploads for DynamoUploads {
    async fn begin(&self, upload: &Upload, now: Timestamp) -> Result<Upload, StageError> {
        let operation = || format!("begin upload {}", upload.message_id);
        let mut last = None;
        for tried in 0..TRIES {
            if tried > 0 {
                tokio::time::sleep(PAUSE * (1 << (tried - 1))).await;
            }
            match self.put(upload, now).await? {
                Ok(()) => return Ok(upload.clone()),
                // The reply of an earlier try of this call was lost.
                Err(Refused::KeyTaken(holder)) if holder == upload.message_id => return Ok(upload.clone()),
                Err(Refused::KeyTaken(holder)) => {
                    return self.find(holder).await?.ok_or_else(|| {
                        let text = format!("{}: its key names upload {holder}, which is gone", operation());
                        StageError::new(ErrorName::TableUnavailable, text)
                    });
                }
                Err(Refused::Transient(error)) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| StageError::new(ErrorName::TableUnavailable, operation())))
    }

    async fn of_key(&self, key: &IdempotencyKey, now: Timestamp) -> Result<Option<Upload>, StageError> {
        let operation = || "read the upload of an idempotency key".to_owned();
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(UPLOAD, text(key.upload_name()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        let holder = read.item.and_then(|item| text_of(&item, MESSAGE_ID)?.parse().ok());
        let Some(holder) = holder else { return Ok(None) };
        Ok(self.find(holder).await?.filter(|upload| !upload.is_expired(now)))
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StageError> {
        let deleted = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(UPLOAD, text(upload.key.upload_name()))
            .condition_expression(format!("{MESSAGE_ID} = :upload"))
            .expression_attribute_values(":upload", text(upload.message_id))
            .send()
            .await;
        outcome_of(deleted, || format!("free the key of upload {}", upload.message_id)).map(drop)
    }

    async fn lease(&self, id: RecordId, until: Timestamp, now: Timestamp) -> Result<bool, StageError> {
        let updated = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(UPLOAD, text(id))
            .update_expression(format!("SET {LEASED_UNTIL} = :until"))
            .condition_expression(format!(
                "attribute_exists({UPLOAD}) AND (attribute_not_exists({LEASED_UNTIL}) OR {LEASED_UNTIL} <= :now)"
            ))
            .expression_attribute_values(":until", time(until))
            .expression_attribute_values(":now", time(now))
            .send()
            .await;
        let outcome = outcome_of(updated, || format!("take the right to copy upload {id}"))?;
        Ok(matches!(outcome, ConditionalWrite::Written))
    }

    async fn end_lease(&self, id: RecordId, until: Timestamp) -> Result<(), StageError> {
        let updated = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(UPLOAD, text(id))
            .update_expression(format!("REMOVE {LEASED_UNTIL}"))
            .condition_expression(format!("{LEASED_UNTIL} = :until"))
            .expression_attribute_values(":until", time(until))
            .send()
            .await;
        outcome_of(updated, || format!("give back the right to copy upload {id}")).map(drop)
    }

    async fn find(&self, id: RecordId) -> Result<Option<Upload>, StageError> {
        let operation = || format!("read upload {id}");
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(UPLOAD, text(id))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        let decode = |item: Attributes| {
            let description = text_of(&item, DESCRIPTION).map(serde_json::from_str);
            description.and_then(Result::ok).ok_or_else(|| {
                let text = format!("{}: the item is not an upload", operation());
                StageError::new(ErrorName::ServiceRefused, text)
            })
        };
        read.item.map(decode).transpose()
    }
}

fn item(
    put: aws_sdk_dynamodb::types::builders::PutBuilder,
    operation: &str,
) -> Result<TransactWriteItem, StageError> {
    let put =
        put.build().map_err(|error| StageError::new(ErrorName::InvalidInput, operation).caused_by(error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// The meaning of a cancelled transaction.
enum Cancelled {
    /// The key has this upload.
    KeyTaken(RecordId),
    /// The cancellation has a transient reason.
    Passing,
}

/// Returns the meaning of an error if the transaction was cancelled or is in progress.
fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Cancelled> {
    const PASSING: [&str; 5] = [
        "None",
        "ConditionalCheckFailed",
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    ];
    match error.as_service_error()? {
        TransactWriteItemsError::TransactionInProgressException(_) => Some(Cancelled::Passing),
        TransactWriteItemsError::TransactionCanceledException(cancelled) => {
            let reasons = cancelled.cancellation_reasons();
            let holder =
                reasons.get(1)?.item.as_ref().and_then(|item| text_of(item, MESSAGE_ID)?.parse().ok());
            let passes =
                reasons.iter().filter_map(|reason| reason.code()).all(|code| PASSING.contains(&code));
            holder.map(Cancelled::KeyTaken).or_else(|| passes.then_some(Cancelled::Passing))
        }
        _ => None,
    }
}
