//! The event by which Lambda hands over messages of a queue, and the answer that says which of them to keep.

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
    /// What was sent.
    pub body: String,
    /// The attributes it was sent with.
    #[serde(default)]
    pub message_attributes: BTreeMap<String, SqsAttribute>,
}

/// A message attribute.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsAttribute {
    /// Its value, where it is text.
    pub string_value: Option<String>,
}

impl SqsMessage {
    /// The text value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.message_attributes.get(name)?.string_value.as_deref()
    }
}

/// Which messages SQS must keep; it deletes the others.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// The messages that were not dealt with.
    pub batch_item_failures: Vec<ItemFailure>,
}

/// A message that was not dealt with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Its id.
    pub item_identifier: String,
}
