//! Reads the messages of the redrive queue.

use crate::{dead_letter::DeadLetter, error::StageError, schema, sqs_event::SqsMessage};

/// Reads the dead letter in a message.
pub(super) fn read(message: &SqsMessage) -> Result<DeadLetter, StageError> {
    schema::read(message.body.as_bytes(), "read a message of the redrive queue as a dead letter")
}
