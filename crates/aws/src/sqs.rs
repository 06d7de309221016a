//! The SQS queues of dead letters: the dead-letter queue, the queue of rejected requests, and the redrive queue.

use std::time::Duration;

use aws_sdk_sqs::{Client, types::MessageAttributeValue};
use custody_core::{
    backoff::MAX_DELAY,
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    json::for_messages,
    ports::DeadLetters,
    stages::redrive::FORCE_ATTRIBUTE,
};

use crate::classify::stage_error;

/// An SQS queue of dead letters.
#[derive(Clone, Debug)]
pub struct SqsDeadLetters {
    client: Client,
    url: String,
}

impl SqsDeadLetters {
    /// Creates the adapter of the queue at `url`.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }
}

impl DeadLetters for SqsDeadLetters {
    async fn send(&self, dead_letter: &DeadLetter) -> Result<(), StageError> {
        self.deliver(dead_letter, Duration::ZERO, false).await
    }
}

impl SqsDeadLetters {
    /// Sends a dead letter to the queue. The message becomes visible after `delay`, at most 15 minutes. `forced` means
    /// that a person allows a further attempt of the record although it has used up its redrives.
    pub async fn deliver(
        &self,
        dead_letter: &DeadLetter,
        delay: Duration,
        forced: bool,
    ) -> Result<(), StageError> {
        let operation = || match dead_letter.message_id {
            Some(id) => format!("send the dead letter of record {id}"),
            None => "send the dead letter of a rejected request".to_owned(),
        };
        let body = serde_json::to_string(dead_letter)
            .map_err(|error| StageError::new(ErrorName::InvalidInput, operation()).caused_by(error))?;
        let failure = &dead_letter.failure;
        let delay = i32::try_from(delay.min(MAX_DELAY).as_secs()).unwrap_or_default();
        let mut request = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(for_messages(&body))
            .set_delay_seconds((delay > 0).then_some(delay));
        let force = forced.then(|| (FORCE_ATTRIBUTE, "String", "true".to_owned()));
        for (name, data_type, value) in [
            ("stage", "String", failure.stage.clone()),
            ("kind", "String", failure.kind.to_string()),
            ("errorName", "String", failure.error_name.clone()),
            ("attempt", "Number", failure.attempt.to_string()),
        ]
        .into_iter()
        .chain(force)
        {
            let attribute = MessageAttributeValue::builder().data_type(data_type).string_value(value).build();
            let attribute = attribute
                .map_err(|error| StageError::new(ErrorName::InvalidInput, operation()).caused_by(error))?;
            request = request.message_attributes(name, attribute);
        }
        request
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::QueueUnavailable, operation()))?;
        Ok(())
    }
}
