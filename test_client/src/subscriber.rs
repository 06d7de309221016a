//! A subscriber of the notifications: one thread reads its queue, and any number of tasks wait for notifications.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use custody_core::record_id::RecordId;
use serde_json::Value;

use crate::{deployment::Deployment, queue};

/// A notification as it arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The CloudEvent.
    pub event: Value,
    /// The SNS message attributes, by name.
    pub attributes: HashMap<String, String>,
    /// When the subscriber received the notification.
    pub at: Instant,
}

impl Arrival {
    /// Returns the CloudEvents type without prefix and version: `received`, `archived`, …
    pub fn stage(&self) -> &str {
        let event_type = self.event["type"].as_str().unwrap_or_default();
        event_type.trim_start_matches("custody.message.").trim_end_matches(".v1")
    }
}

type Arrivals = Arc<Mutex<HashMap<String, Vec<Arrival>>>>;

/// A subscriber. Its thread runs until the process ends.
#[derive(Clone, Debug)]
pub struct Subscriber {
    arrivals: Arrivals,
}

impl Subscriber {
    /// Starts to read the deployment's demo queue. Notifications are deleted from the queue and stored in memory, by
    /// record.
    pub fn start(deployment: &Deployment) -> anyhow::Result<Self> {
        let url = deployment.output("DemoSubscriberQueueUrl")?.to_owned();
        let arrivals = Arrivals::default();
        let into = Arc::clone(&arrivals);
        queue::read_in_background(deployment.aws.clone(), url, move |message| {
            let event: Value = serde_json::from_str(message.body().unwrap_or_default()).unwrap_or_default();
            let subject = event["subject"].as_str().unwrap_or_default().to_owned();
            let arrival = Arrival { event, attributes: queue::attributes(message), at: Instant::now() };
            into.lock().unwrap_or_else(PoisonError::into_inner).entry(subject).or_default().push(arrival);
        })?;
        Ok(Self { arrivals })
    }

    /// Returns the notifications about a record that have arrived so far.
    pub fn arrivals(&self, id: RecordId) -> Vec<Arrival> {
        let arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.get(&id.to_string()).cloned().unwrap_or_default()
    }

    /// Waits until `failed`, or all four notifications of a completed record, have arrived, and returns what has
    /// arrived.
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
