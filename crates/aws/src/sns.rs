//! Notifications on SNS.

use aws_sdk_sns::{Client, types::MessageAttributeValue};
use custody_core::{
    error::{ErrorName, StageError},
    json::for_messages,
    notification::Notification,
    ports::Notifier,
};

use crate::classify::stage_error;

/// The notification topic.
#[derive(Clone, Debug)]
pub struct TopicNotifier {
    client: Client,
    topic_arn: String,
}

impl TopicNotifier {
    /// Creates the adapter of the topic with this ARN.
    pub fn new(client: Client, topic_arn: String) -> Self {
        Self { client, topic_arn }
    }
}

impl Notifier for TopicNotifier {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        let operation = || format!("publish {}", notification.event_type);
        let mut request = self
            .client
            .publish()
            .topic_arn(&self.topic_arn)
            .message(for_messages(&notification.body.to_string()));
        for (name, value) in [
            ("type", notification.event_type),
            ("messageType", &notification.message_type),
            ("sourceSystemID", &notification.source_system_id),
        ] {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            let attribute = attribute
                .map_err(|error| StageError::new(ErrorName::InvalidInput, operation()).caused_by(error))?;
            request = request.message_attributes(name, attribute);
        }
        request
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TopicUnavailable, operation()))?;
        Ok(())
    }
}
