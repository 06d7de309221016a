//! Reads the messages of the redrive queue.

use crate::{
    SCHEMA_VERSION,
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    sqs_event::SqsMessage,
};

/// Reads the dead letter in a message.
pub(super) fn read(message: &SqsMessage) -> Result<DeadLetter, StageError> {
    let operation = "read a message of the redrive queue as a dead letter";
    let dead_letter: DeadLetter = serde_json::from_str(&message.body)
        .map_err(|error| StageError::new(ErrorName::InvalidInput, operation).caused_by(error))?;
    if dead_letter.schema_version != SCHEMA_VERSION {
        let found =
            format!("{operation}: schemaVersion {} is not {SCHEMA_VERSION}", dead_letter.schema_version);
        return Err(StageError::new(ErrorName::InvalidInput, found));
    }
    Ok(dead_letter)
}
