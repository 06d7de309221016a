//! The event in which Lambda delivers messages of a queue, and the answer that lists the messages to be delivered
//! again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A batch of messages.
#[derive(Debug, Deserialize)]
pub struct SqsEvent {
    /// The messages.
    #[serde(rename = "Records")]
    pub records: Vec<SqsMessage>,
}

/// One message.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsMessage {
    /// SQS's id of the message.
    pub message_id: String,
    /// The text of the message.
    pub body: String,
    /// The attributes of the message.
    #[serde(default)]
    pub message_attributes: BTreeMap<String, SqsAttribute>,
}

/// A message attribute.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsAttribute {
    /// The value, if it is text.
    pub string_value: Option<String>,
}

impl SqsMessage {
    /// Returns the text value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.message_attributes.get(name)?.string_value.as_deref()
    }
}

/// The answer to a batch: SQS keeps the messages that it lists, and deletes the others.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// The messages that failed.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// A message that failed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// The SQS id of the message.
    pub item_identifier: String,
}
