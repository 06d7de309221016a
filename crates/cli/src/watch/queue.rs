//! The queue of one `custody watch`: it is subscribed to the topic, and is deleted when the command ends.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_sqs::types::QueueAttributeName;
use custody_aws::Aws;
use custody_core::clock::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

/// The age at which a queue belongs to a command that was killed before it could delete the queue.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);

/// The number of seconds for which the queue keeps notifications that nobody takes: the minimum of SQS, because a queue that is left
/// over must not fill.
const RETENTION_SECONDS: &str = "60";

/// The number of seconds that a read waits for a notification.
const WAIT_SECONDS: i32 = 3;

/// Creates the queues of `custody watch`.
#[derive(Debug)]
pub(crate) struct WatchQueues {
    pub(crate) aws: Aws,
    pub(crate) topic_arn: String,
    /// The beginning of the names of the queues of this deployment.
    pub(crate) prefix: String,
}

/// A queue that gets notifications.
#[derive(Debug)]
pub(crate) struct WatchQueue {
    aws: Aws,
    url: String,
    subscription_arn: String,
}

impl WatchQueues {
    /// Deletes the queues, and their subscriptions, of commands that were killed long ago.
    pub(crate) async fn delete_leftovers(&self) -> anyhow::Result<()> {
        let (sqs, now) = (self.aws.sqs(), SystemClock.now());
        let listed = sqs.list_queues().queue_name_prefix(&self.prefix).max_results(100).send().await;
        for url in listed.context("list the queues of earlier `custody watch`es")?.queue_urls() {
            let name = url.rsplit('/').next().unwrap_or_default();
            let made_at = name.strip_prefix(&self.prefix).and_then(|rest| rest.split('-').next());
            let made_at = made_at.and_then(|text| text.parse().ok()).and_then(Timestamp::from_unix_ms);
            if made_at.is_some_and(|made_at| now.since(made_at) > LEFTOVER_AGE) {
                self.unsubscribe(name).await?;
                sqs.delete_queue()
                    .queue_url(url)
                    .send()
                    .await
                    .context("delete a queue that was left over")?;
            }
        }
        Ok(())
    }

    /// Removes the subscription of the queue with this name.
    async fn unsubscribe(&self, queue_name: &str) -> anyhow::Result<()> {
        let sns = self.aws.sns();
        let mut pages = sns.list_subscriptions_by_topic().topic_arn(&self.topic_arn).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.context("list the subscriptions of the topic")?;
            for subscription in page.subscriptions() {
                let endpoint = subscription.endpoint().unwrap_or_default();
                if endpoint.rsplit(':').next() == Some(queue_name) {
                    let arn = subscription.subscription_arn().unwrap_or_default();
                    sns.unsubscribe().subscription_arn(arn).send().await.context("remove a subscription")?;
                }
            }
        }
        Ok(())
    }

    /// Creates a queue and subscribes it with this filter policy.
    pub(crate) async fn create(&self, filter_policy: &Value) -> anyhow::Result<WatchQueue> {
        let sqs = self.aws.sqs();
        let name = format!("{}{}-{}", self.prefix, SystemClock.now().unix_ms(), std::process::id());
        let retention = QueueAttributeName::MessageRetentionPeriod;
        let created =
            sqs.create_queue().queue_name(name).attributes(retention, RETENTION_SECONDS).send().await;
        let url = created.context("create a queue")?.queue_url.context("SQS returns the queue's URL")?;
        let watched = WatchQueue { aws: self.aws.clone(), url, subscription_arn: String::new() };
        match self.subscribe(&watched.url, filter_policy).await {
            Ok(subscription_arn) => Ok(WatchQueue { subscription_arn, ..watched }),
            Err(error) => {
                watched.delete().await?;
                Err(error)
            }
        }
    }

    /// Subscribes a queue to the topic. Returns the ARN of the subscription.
    async fn subscribe(&self, url: &str, filter_policy: &Value) -> anyhow::Result<String> {
        let sqs = self.aws.sqs();
        let arn = QueueAttributeName::QueueArn;
        let read = sqs.get_queue_attributes().queue_url(url).attribute_names(arn.clone()).send().await;
        let read = read.context("read the queue's ARN")?;
        let arn = read.attributes().and_then(|all| all.get(&arn)).context("SQS returns the queue's ARN")?;
        let statement = json!({
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": self.topic_arn}},
        });
        let policy = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        let set = sqs.set_queue_attributes().queue_url(url).attributes(QueueAttributeName::Policy, policy);
        set.send().await.context("set the queue's policy")?;
        let mut subscribe = self
            .aws
            .sns()
            .subscribe()
            .topic_arn(&self.topic_arn)
            .protocol("sqs")
            .endpoint(arn)
            .return_subscription_arn(true)
            .attributes("RawMessageDelivery", "true");
        if filter_policy.as_object().is_some_and(|policy| !policy.is_empty()) {
            subscribe = subscribe.attributes("FilterPolicy", filter_policy.to_string());
        }
        let subscribed = subscribe.send().await.context("subscribe the queue")?;
        subscribed.subscription_arn.context("SNS returns the subscription's ARN")
    }
}

impl WatchQueue {
    /// Waits a moment for notifications, and takes those that have arrived off the queue.
    pub(crate) async fn receive(&self) -> anyhow::Result<Vec<Value>> {
        let sqs = self.aws.sqs();
        let receive = sqs.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let received = receive.wait_time_seconds(WAIT_SECONDS).send().await.context("read the queue")?;
        let mut events = Vec::new();
        for message in received.messages() {
            events.extend(message.body().and_then(|body| serde_json::from_str(body).ok()));
            let handle = message.receipt_handle().unwrap_or_default();
            // A message that stays expires with the queue; at worst it is shown twice.
            sqs.delete_message().queue_url(&self.url).receipt_handle(handle).send().await.ok();
        }
        Ok(events)
    }

    /// Removes the subscription and the queue.
    pub(crate) async fn delete(&self) -> anyhow::Result<()> {
        if !self.subscription_arn.is_empty() {
            let unsubscribe = self.aws.sns().unsubscribe().subscription_arn(&self.subscription_arn);
            unsubscribe.send().await.context("remove the subscription")?;
        }
        self.aws.sqs().delete_queue().queue_url(&self.url).send().await.context("delete the queue")?;
        Ok(())
    }
}
