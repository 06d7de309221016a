//! Which deployment to talk to: a CloudFormation stack and its outputs.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::{
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    primitives::Blob,
};
use custody_common::aws::Aws;
use custody_core::{
    dead_letter::DeadLetter,
    message::InternalMessage,
    record_id::RecordId,
    stages::reconcile::{Listing, Request},
};
use serde_json::Value;

/// A deployment.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) aws: Aws,
    stack_name: String,
    outputs: BTreeMap<String, String>,
}

impl Deployment {
    /// The deployment of this stack.
    pub(crate) async fn find(stack_name: &str) -> anyhow::Result<Self> {
        let aws = Aws::load().await;
        let client = aws_sdk_cloudformation::Client::new(aws.config());
        let described = client.describe_stacks().stack_name(stack_name).send().await.with_context(|| {
            format!(
                "find stack `{stack_name}` (--stack-name or CUSTODY_STACK_NAME say which; AWS_PROFILE, AWS_REGION and \
                 AWS_ENDPOINT_URL where)"
            )
        })?;
        let Some(stack) = described.stacks().first() else { bail!("there is no stack `{stack_name}`") };
        let outputs = stack.outputs().iter();
        let outputs =
            outputs.filter_map(|o| Some((o.output_key()?.to_owned(), o.output_value()?.to_owned())));
        Ok(Self { outputs: outputs.collect(), stack_name: stack_name.to_owned(), aws })
    }

    /// One output of the stack.
    pub(crate) fn output(&self, name: &str) -> anyhow::Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| {
            format!(
                "stack `{}` has no output {name}; is it a Custody stack, and of this version?",
                self.stack_name
            )
        })
    }

    /// The item of a record as JSON; null where there is none.
    pub(crate) async fn item(&self, id: RecordId) -> anyhow::Result<Value> {
        let read = self
            .aws
            .dynamodb()
            .get_item()
            .table_name(self.output("TableName")?)
            .key("messageID", AttributeValue::S(id.to_string()))
            .consistent_read(true)
            .send()
            .await;
        let item = read.with_context(|| format!("read the item of record {id}"))?.item;
        let item = item.map(serde_dynamo::from_item).transpose().context("decode the item")?;
        Ok(item.unwrap_or_default())
    }

    /// The dead letter of a failed record, as its item remembers it; `None` where there is no such record, or an operator
    /// gave it up.
    pub(crate) async fn letter_from_item(&self, id: RecordId) -> anyhow::Result<Option<DeadLetter>> {
        let item = self.item(id).await?;
        if item["status"] != "FAILED" || !item["discarded"].is_null() {
            return Ok(None);
        }
        let message: InternalMessage =
            serde_json::from_value(item.clone()).context("read the item's message")?;
        let failure = serde_json::from_value(item["failure"].clone()).context("read the item's failure")?;
        Ok(Some(DeadLetter::of_record(&message, failure, Vec::new())))
    }

    /// Asks reconcile what is pending: the cache is in a network that only functions reach.
    pub(crate) async fn pending(&self, request: Request) -> anyhow::Result<Listing> {
        let name = self.output("ReconcileFunctionName")?;
        let input = serde_json::to_vec(&request).context("write the question")?;
        // One try, as long as it takes: with a cache that is away, or much that is pending, it takes a while, and that is
        // when operators ask.
        let patiently = aws_sdk_lambda::config::Config::builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled());
        let invoke = self.aws.lambda().invoke().function_name(name).payload(Blob::new(input));
        let invoked = invoke.customize().config_override(patiently).send().await;
        let output = invoked.with_context(|| format!("ask {name} what is pending"))?;
        let answer = output.payload.map(Blob::into_inner).unwrap_or_default();
        if output.function_error.is_some() {
            bail!("{name} could not say what is pending: {}", String::from_utf8_lossy(&answer));
        }
        serde_json::from_slice(&answer).with_context(|| format!("read the answer of {name}"))
    }
}
