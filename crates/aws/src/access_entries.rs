//! Access entries in DynamoDB. The key of the access table is the credential, as text.

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use custody_core::{
    access::{AccessEntry, Credential},
    error::{ErrorName, StageError},
    ports::AccessEntries,
    stored_names::attributes::CREDENTIAL,
};

use crate::{classify::stage_error, conditional_write::Attributes};

/// The access table.
#[derive(Clone, Debug)]
pub struct DynamoAccessEntries {
    client: Client,
    table: String,
}

impl DynamoAccessEntries {
    /// Creates the adapter of the access table `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

impl AccessEntries for DynamoAccessEntries {
    async fn find(&self, credential: &Credential) -> Result<Option<AccessEntry>, StageError> {
        let operation = || format!("read the access entry of {credential}");
        let read = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(CREDENTIAL, key(credential))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        read.item.map(|item| decode(item, operation)).transpose()
    }

    async fn list(&self) -> Result<Vec<(Credential, AccessEntry)>, StageError> {
        let operation = || "list the access entries".to_owned();
        let mut pages =
            self.client.scan().table_name(&self.table).consistent_read(true).into_paginator().send();
        let mut entries = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
            for item in page.items.unwrap_or_default() {
                let text = item.get(CREDENTIAL).and_then(|value| value.as_s().ok());
                let credential =
                    text.and_then(|text| text.parse().ok()).ok_or_else(|| unreadable(&operation()))?;
                entries.push((credential, decode(item, operation)?));
            }
        }
        entries.sort_by(|(a, of_a), (b, of_b)| (&of_a.principal, a).cmp(&(&of_b.principal, b)));
        Ok(entries)
    }

    async fn put(&self, credential: &Credential, entry: &AccessEntry) -> Result<(), StageError> {
        let operation = || format!("write the access entry of {credential}");
        let encoded: Result<Attributes, _> = serde_dynamo::to_item(entry);
        let item = encoded.map_err(|error| unreadable(&operation()).caused_by(error))?;
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .item(CREDENTIAL, key(credential))
            .send()
            .await
            .map_err(|error| stage_error(&error, ErrorName::TableUnavailable, operation()))?;
        Ok(())
    }

    async fn remove(&self, credential: &Credential) -> Result<(), StageError> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key(CREDENTIAL, key(credential))
            .send()
            .await
            .map_err(|error| {
                let operation = format!("remove the access entry of {credential}");
                stage_error(&error, ErrorName::TableUnavailable, operation)
            })?;
        Ok(())
    }
}

fn key(credential: &Credential) -> AttributeValue {
    AttributeValue::S(credential.to_string())
}

fn decode(item: Attributes, operation: impl Fn() -> String) -> Result<AccessEntry, StageError> {
    serde_dynamo::from_item(item).map_err(|error| unreadable(&operation()).caused_by(error))
}

fn unreadable(operation: &str) -> StageError {
    StageError::new(ErrorName::ServiceRefused, format!("{operation}: the item is not an access entry"))
}
