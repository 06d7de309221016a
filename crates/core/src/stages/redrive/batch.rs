//! Batches of the redrive queue: each message is handled separately, and the answer lists those that failed.

use tracing::error;

use super::{FORCE_ATTRIBUTE, Redrive};
use crate::{
    SCHEMA_VERSION,
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    ports::Deployment,
    sqs_event::{BatchResponse, ItemFailure, SqsEvent, SqsMessage},
};

impl<D: Deployment> Redrive<D> {
    /// Redrives every message of a batch. A message that fails stays on its queue, which delivers it again and later
    /// moves it to the dead-letter queue unchanged. A message that is not a dead letter of this format therefore comes
    /// back to the operator who sent it.
    pub async fn run(&self, batch: SqsEvent) -> BatchResponse {
        let mut response = BatchResponse::default();
        for message in batch.records {
            let redriven = match read(&message) {
                Ok(letter) => {
                    self.redrive(letter, message.attribute(FORCE_ATTRIBUTE) == Some("true")).await.map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = redriven {
                error!(
                    message.id = message.message_id,
                    error.name = error.name.as_str(),
                    %error,
                    "left a message on the redrive queue"
                );
                response.batch_item_failures.push(ItemFailure { item_identifier: message.message_id });
            }
        }
        response
    }
}

fn read(message: &SqsMessage) -> Result<DeadLetter, StageError> {
    let operation = "read a message of the redrive queue as a dead letter";
    let letter: DeadLetter = serde_json::from_str(&message.body)
        .map_err(|error| StageError::new(ErrorName::InvalidInput, operation).caused_by(error))?;
    if letter.schema_version != SCHEMA_VERSION {
        let found = format!("{operation}: schemaVersion {} is not {SCHEMA_VERSION}", letter.schema_version);
        return Err(StageError::new(ErrorName::InvalidInput, found));
    }
    Ok(letter)
}
