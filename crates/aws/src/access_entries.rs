//! Access entries in DynamoDB. The key of the access table is the credential, as text.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use custody_core::{
    access::{AccessEntry, Credential},
    error::{ErrorName, StageError},
    ports::AccessEntries,
    stored_names::attributes::CREDENTIAL,
};

use crate::{
    classify::stage_error,
    conditional_write::{Attributes, ConditionalWrite, outcome_of},
};

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

    async fn put(
        &self,
        credential: &Credential,
        entry: &AccessEntry,
        before: Option<&AccessEntry>,
    ) -> Result<bool, StageError> {
        let operation = || format!("write the access entry of {credential}");
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(entry, operation)?))
            .item(CREDENTIAL, key(credential))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        put = match before {
            None => put.condition_expression(format!("attribute_not_exists({CREDENTIAL})")),
            Some(before) => {
                let condition = Condition::equals(encode(before, operation)?);
                put.condition_expression(condition.expression)
                    .set_expression_attribute_names(Some(condition.names))
                    .set_expression_attribute_values(Some(condition.values))
            }
        };
        match outcome_of(put.send().await, operation)? {
            ConditionalWrite::Written => Ok(true),
            // The reply of an earlier try of the same write may have been lost.
            ConditionalWrite::ConditionFalse(present) if present.is_empty() => Ok(false),
            ConditionalWrite::ConditionFalse(present) => Ok(decode(present, operation)? == *entry),
        }
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

/// The fields of an entry that it may lack.
const OPTIONAL_FIELDS: [&str; 3] = ["expiresAt", "references", "sources"];

/// The condition that an item has the fields of an entry.
struct Condition {
    expression: String,
    names: HashMap<String, String>,
    values: Attributes,
}

impl Condition {
    fn equals(fields: Attributes) -> Self {
        let absent: Vec<_> = OPTIONAL_FIELDS
            .into_iter()
            .filter(|name| !fields.contains_key(*name))
            .map(str::to_owned)
            .collect();
        let (mut terms, mut names, mut values) = (Vec::new(), HashMap::new(), Attributes::new());
        for (number, (name, value)) in fields.into_iter().enumerate() {
            terms.push(format!("#f{number} = :f{number}"));
            names.insert(format!("#f{number}"), name);
            values.insert(format!(":f{number}"), value);
        }
        for (number, name) in absent.into_iter().enumerate() {
            terms.push(format!("attribute_not_exists(#a{number})"));
            names.insert(format!("#a{number}"), name);
        }
        Self { expression: terms.join(" AND "), names, values }
    }
}

fn encode(entry: &AccessEntry, operation: impl Fn() -> String) -> Result<Attributes, StageError> {
    serde_dynamo::to_item(entry).map_err(|error| unreadable(&operation()).caused_by(error))
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
