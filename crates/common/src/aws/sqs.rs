//! The dead-letter queue on SQS.

use aws_sdk_sqs::{Client, types::MessageAttributeValue};
use custody_core::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    json::for_messages,
    ports::DeadLetters,
};

use super::classify::stage_error;

/// The queue.
#[derive(Clone, Debug)]
pub struct DeadLetterQueue {
    client: Client,
    url: String,
}

impl DeadLetterQueue {
    /// The queue at `url`.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }
}

impl DeadLetters for DeadLetterQueue {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        let operation = || match letter.message_id {
            Some(id) => format!("send the dead letter of record {id}"),
            None => "send the dead letter of a refused request".to_owned(),
        };
        let body = serde_json::to_string(letter)
            .map_err(|error| StageError::new(ErrorName::InvalidInput, operation()).caused_by(error))?;
        let failure = &letter.failure;
        let mut request = self.client.send_message().queue_url(&self.url).message_body(for_messages(&body));
        for (name, data_type, value) in [
            ("stage", "String", failure.stage.clone()),
            ("kind", "String", failure.kind.to_string()),
            ("errorName", "String", failure.error_name.clone()),
            ("attempt", "Number", failure.attempt.to_string()),
        ] {
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
