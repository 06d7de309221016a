//! Conditional writes to DynamoDB. A condition that is false is an answer and no error.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{delete_item::DeleteItemError, put_item::PutItemError, update_item::UpdateItemError},
    types::AttributeValue,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use custody_core::error::{ErrorName, StageError};

use crate::classify::stage_error;

/// The attributes of an item, by name.
pub(crate) type Attributes = HashMap<String, AttributeValue>;

/// The outcome of a conditional write.
pub(crate) enum ConditionalWrite {
    /// The condition was true, and the write was made.
    Written,
    /// The condition was false. The value is the existing item, or an empty map if there is none.
    ConditionFalse(Attributes),
}

/// Returns the outcome of a write that asked for the existing item (`ALL_OLD`) in case its condition is false.
pub(crate) fn outcome_of<T, E>(
    written: Result<T, SdkError<E>>,
    operation: impl FnOnce() -> String,
) -> Result<ConditionalWrite, StageError>
where
    E: ConditionError + Send + Sync + 'static,
{
    let Err(error) = written else { return Ok(ConditionalWrite::Written) };
    match error.as_service_error().and_then(ConditionError::existing_item) {
        Some(existing) => Ok(ConditionalWrite::ConditionFalse(existing)),
        None => Err(stage_error(&error, ErrorName::TableUnavailable, operation())),
    }
}

/// An error that may mean that the condition of a write was false.
pub(crate) trait ConditionError: std::error::Error + ProvideErrorMetadata {
    /// Returns the existing item if the condition was false.
    fn existing_item(&self) -> Option<Attributes>;
}

macro_rules! condition_errors {
    ($($error:ident),*) => {
        $(impl ConditionError for $error {
            fn existing_item(&self) -> Option<Attributes> {
                match self {
                    Self::ConditionalCheckFailedException(failed) => Some(failed.item.clone().unwrap_or_default()),
                    _ => None,
                }
            }
        })*
    };
}

condition_errors!(PutItemError, UpdateItemError, DeleteItemError);
