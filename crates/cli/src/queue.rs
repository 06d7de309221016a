//! A queue of dead letters as a list. SQS knows no browsing: a message that is read is hidden for a time, so what is only
//! looked at is shown to others again at the end.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use aws_sdk_sqs::{
    Client,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
    },
};
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    dead_letter::DeadLetter,
};
use serde::Serialize;
use serde_json::Value;

use crate::selection::Selection;

/// How long what is read stays hidden from other readers: longer than a page of it takes to be dealt with.
const VISIBILITY_TIMEOUT: Duration = Duration::from_mins(5);

/// How many receives go on at once.
const READERS: usize = 8;

/// After how many rounds of receives without anything new the queue counts as read.
const IDLE_ROUNDS: u32 = 2;

/// A message that is hidden from others for now.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// SQS's id.
    pub(crate) message_id: String,
    receipt_handle: String,
    /// The text as sent.
    pub(crate) body: String,
    /// The dead letter; `None` for a message that is not Custody's.
    pub(crate) letter: Option<DeadLetter>,
    sent_at: Timestamp,
}

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) stage: String,
    pub(crate) kind: String,
    pub(crate) error_name: String,
    pub(crate) reason: String,
    pub(crate) attempt: u32,
    pub(crate) parked: bool,
    pub(crate) failed_at: Timestamp,
    pub(crate) age_seconds: u64,
}

impl Held {
    fn new(message: &Message) -> Option<Self> {
        let sent_at = message.attributes().and_then(|a| a.get(&MessageSystemAttributeName::SentTimestamp));
        let sent_at = sent_at
            .and_then(|text| text.parse().ok())
            .and_then(Timestamp::from_unix_ms)
            .unwrap_or_else(|| SystemClock.now());
        let receipt_handle = message.receipt_handle()?.to_owned();
        let held = Self::of(message.message_id()?, message.body().unwrap_or_default().to_owned(), sent_at);
        Some(Self { receipt_handle, ..held })
    }

    /// A message of this text.
    pub(crate) fn of(message_id: &str, body: String, sent_at: Timestamp) -> Self {
        Self {
            message_id: message_id.to_owned(),
            receipt_handle: String::new(),
            letter: serde_json::from_str(&body).ok(),
            body,
            sent_at,
        }
    }

    /// What an operator calls it: the record's id, the request's, or SQS's.
    pub(crate) fn id(&self) -> String {
        let letter = self.letter.as_ref();
        let record = letter.and_then(|letter| letter.message_id).map(|id| id.to_string());
        let request = letter.and_then(|letter| letter.request["requestId"].as_str()).map(str::to_owned);
        record.or(request).unwrap_or_else(|| self.message_id.clone())
    }

    pub(crate) fn is_called(&self, id: &str) -> bool {
        self.id() == id || self.message_id == id
    }

    pub(crate) fn stage(&self) -> &str {
        self.letter.as_ref().map_or("", |letter| &letter.failure.stage)
    }

    pub(crate) fn kind(&self) -> String {
        self.letter.as_ref().map_or_else(|| "Foreign".to_owned(), |letter| letter.failure.kind.to_string())
    }

    pub(crate) fn failed_at(&self) -> Timestamp {
        self.letter.as_ref().map_or(self.sent_at, |letter| letter.failure.failed_at)
    }

    /// Its line in the list.
    pub(crate) fn line(&self) -> Line {
        let failure = self.letter.as_ref().map(|letter| &letter.failure);
        Line {
            id: self.id(),
            stage: self.stage().to_owned(),
            kind: self.kind(),
            error_name: failure.map_or_else(String::new, |failure| failure.error_name.clone()),
            reason: failure.map_or_else(
                || {
                    format!(
                        "not a dead letter of Custody: {}",
                        self.body.chars().take(80).collect::<String>()
                    )
                },
                |failure| failure.reason.clone(),
            ),
            attempt: failure.map_or(0, |failure| failure.attempt),
            parked: self.letter.as_ref().is_some_and(|letter| letter.parked),
            failed_at: self.failed_at(),
            age_seconds: SystemClock.now().since(self.failed_at()).as_secs(),
        }
    }

    /// The dead letter, or whatever it is, as JSON.
    pub(crate) fn content(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| Value::from(self.body.as_str()))
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    client: Client,
    url: String,
    seen: BTreeSet<String>,
    /// Read, and to be shown to others again.
    untouched: Vec<Held>,
}

impl Queue {
    pub(crate) fn new(client: Client, url: String) -> Self {
        Self { client, url, seen: BTreeSet::new(), untouched: Vec::new() }
    }

    /// Up to about `limit` messages that were not read before; none when there are no more.
    pub(crate) async fn next(&mut self, limit: usize) -> anyhow::Result<Vec<Held>> {
        let mut new = Vec::new();
        let mut idle = 0;
        while new.len() < limit {
            let receives = (0..READERS.min(limit.div_ceil(10))).map(|_| self.receive());
            let mut fresh = 0;
            let mut failed = None;
            for messages in futures_util::future::join_all(receives).await {
                match messages {
                    Ok(messages) => {
                        for held in messages {
                            if self.seen.insert(held.message_id.clone()) {
                                fresh += 1;
                                new.push(held);
                            } else {
                                // Delivered twice, so hidden twice: only the later handle shows it again.
                                self.leave(held);
                            }
                        }
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                self.leave_all(new);
                return Err(error);
            }
            // Nothing, or only what came back because it was hidden long enough: a queue says so more than once.
            idle = if fresh == 0 { idle + 1 } else { 0 };
            if idle == IDLE_ROUNDS {
                break;
            }
        }
        Ok(new)
    }

    /// Reads on until everything that `selection` can mean was read.
    pub(crate) async fn all(&mut self, selection: &Selection, limit: usize) -> anyhow::Result<Vec<Held>> {
        let mut all = Vec::new();
        while all.len() < limit && !selection.is_exhausted_by(&all) {
            let page = self.next((limit - all.len()).min(1000)).await?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        Ok(all)
    }

    async fn receive(&self) -> anyhow::Result<Vec<Held>> {
        let received = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(10)
            .visibility_timeout(i32::try_from(VISIBILITY_TIMEOUT.as_secs()).unwrap_or(i32::MAX))
            .wait_time_seconds(1)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_attribute_names("All")
            .send()
            .await;
        let received = received.with_context(|| format!("read {}", self.url))?;
        Ok(received.messages().iter().filter_map(Held::new).collect())
    }

    /// About how many messages there are.
    pub(crate) async fn count(&self) -> anyhow::Result<u64> {
        let wanted = QueueAttributeName::ApproximateNumberOfMessages;
        let asked =
            self.client.get_queue_attributes().queue_url(&self.url).attribute_names(wanted.clone()).send();
        let attributes =
            asked.await.context("ask how many dead letters there are")?.attributes.unwrap_or_default();
        Ok(attributes.get(&wanted).and_then(|count| count.parse().ok()).unwrap_or_default())
    }

    /// Leaves a message on the queue, to be shown to others by [`Self::release`].
    pub(crate) fn leave(&mut self, held: Held) {
        self.untouched.push(held);
    }

    /// The same for many.
    pub(crate) fn leave_all(&mut self, held: Vec<Held>) {
        self.untouched.extend(held);
    }

    /// Takes a message off the queue for good.
    pub(crate) async fn remove(&self, held: &Held) -> anyhow::Result<()> {
        let delete =
            self.client.delete_message().queue_url(&self.url).receipt_handle(&held.receipt_handle).send();
        delete.await.with_context(|| format!("take the dead letter of {} off the queue", held.id())).map(drop)
    }

    /// Shows what was only looked at to others again. What cannot be shown now shows itself after five minutes.
    pub(crate) async fn release(&mut self) {
        for page in std::mem::take(&mut self.untouched).chunks(10) {
            let entries = page.iter().enumerate().filter_map(|(i, held)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(&held.receipt_handle)
                    .visibility_timeout(0)
                    .build()
                    .ok()
            });
            let entries = Some(entries.collect());
            self.client
                .change_message_visibility_batch()
                .queue_url(&self.url)
                .set_entries(entries)
                .send()
                .await
                .ok();
        }
    }
}
