//! A subscriber of the notifications: one queue, read by one thread, asked by many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use aws_sdk_sqs::Client;
use custody_core::record_id::RecordId;
use serde_json::Value;

use crate::deployment::Deployment;

/// A notification as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The event.
    pub event: Value,
    /// The SNS message attributes, by name.
    pub attributes: HashMap<String, String>,
    /// When it arrived here.
    pub at: Instant,
}

impl Arrival {
    /// The CloudEvents type without prefix and version: `received`, `archived`, …
    pub fn stage(&self) -> &str {
        let event_type = self.event["type"].as_str().unwrap_or_default();
        event_type.trim_start_matches("custody.message.").trim_end_matches(".v1")
    }
}

type Arrivals = Arc<Mutex<HashMap<String, Vec<Arrival>>>>;

/// The subscriber. Its thread ends with the process.
#[derive(Clone, Debug)]
pub struct Subscriber {
    arrivals: Arrivals,
}

impl Subscriber {
    /// Reads the deployment's demo queue from now on. Messages are kept here by record and deleted there.
    pub fn start(deployment: &Deployment) -> anyhow::Result<Self> {
        let queue_url = deployment.output("DemoSubscriberQueueUrl")?.to_owned();
        let arrivals = Arrivals::default();
        let (aws, into) = (deployment.aws.clone(), Arc::clone(&arrivals));
        thread::Builder::new()
            .name("subscriber".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                if let Ok(runtime) = runtime {
                    runtime.block_on(poll(&aws.sqs(), &queue_url, &into));
                }
            })
            .context("start the subscriber's thread")?;
        Ok(Self { arrivals })
    }

    /// What has arrived about a record.
    pub fn arrivals(&self, id: RecordId) -> Vec<Arrival> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.get(&id.to_string()).cloned().unwrap_or_default()
    }

    /// Waits until a record's last notification, `completed` or `failed`, has arrived, and the ones before it.
    pub async fn follow(&self, id: RecordId, timeout: Duration) -> anyhow::Result<Vec<Arrival>> {
        let deadline = Instant::now() + timeout;
        loop {
            let arrivals = self.arrivals(id);
            let has = |stage: &str| arrivals.iter().any(|a| a.stage() == stage);
            // A standard queue may deliver `completed` before the others.
            if has("failed") || ["received", "archived", "metadata-stored", "completed"].into_iter().all(has)
            {
                return Ok(arrivals);
            }
            if Instant::now() > deadline {
                let stages: Vec<_> = arrivals.iter().map(Arrival::stage).collect();
                bail!(
                    "record {id} did not end within {} s; notifications so far: {stages:?}",
                    timeout.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn poll(client: &Client, queue_url: &str, arrivals: &Arrivals) {
    loop {
        let received = client
            .receive_message()
            .queue_url(queue_url)
            .max_number_of_messages(10)
            // What a reader received that ended before it could note it comes to the next one soon.
            .visibility_timeout(2)
            .wait_time_seconds(5)
            .message_attribute_names("All")
            .send()
            .await;
        let Ok(received) = received else {
            // Restarts of the deployment are part of what is tested.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let at = Instant::now();
        for message in received.messages() {
            let event: Value = serde_json::from_str(message.body().unwrap_or_default()).unwrap_or_default();
            let subject = event["subject"].as_str().unwrap_or_default().to_owned();
            let attributes = message
                .message_attributes()
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.string_value()?.to_owned())))
                .collect();
            let arrival = Arrival { event, attributes, at };
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).entry(subject).or_default().push(arrival);
            if let Some(handle) = message.receipt_handle() {
                // What is not deleted arrives again, which a subscriber must bear anyway.
                drop(client.delete_message().queue_url(queue_url).receipt_handle(handle).send().await);
            }
        }
    }
}
