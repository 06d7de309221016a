//! Reads a queue of dead letters as a list. SQS has no operation to browse a queue: a message that is received is
//! hidden from other readers for the visibility timeout. So each command makes the messages that it does not delete
//! visible again at its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use aws_sdk_sqs::{
    Client,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
    },
};
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    dead_letter::DeadLetter,
    record_id::RecordId,
    remedy::Remedy,
};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{interruption::Interruption, selection::Selection};

/// Time for which a received message stays hidden from other readers: longer than a command takes to process one page.
const VISIBILITY_TIMEOUT: Duration = Duration::from_mins(5);

/// Number of concurrent receive calls.
const CONCURRENT_RECEIVES: usize = 8;

/// Number of consecutive rounds without a new message after which the queue counts as read to its end.
const IDLE_ROUNDS: u32 = 2;

/// A received message. It is hidden from other readers until it is released, or until its visibility timeout ends.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedMessage {
    /// Id that SQS gave the message.
    pub(crate) message_id: String,
    receipt_handle: String,
    /// Body of the message, unchanged.
    pub(crate) body: String,
    /// The dead letter in the body; `None` for a message that is not a dead letter of Custody.
    pub(crate) dead_letter: Option<DeadLetter>,
    sent_at: Timestamp,
}

/// A line of `custody dlq list` and `custody rejected list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    pub(crate) id: String,
    /// The id of the record; absent for a request that never became one, and for a message that is not of Custody.
    #[serde(rename = "messageID", skip_serializing_if = "Option::is_none")]
    pub(crate) record_id: Option<RecordId>,
    pub(crate) stage: String,
    pub(crate) kind: String,
    pub(crate) error_name: String,
    /// What brings the record to its end, or the request off the queue.
    pub(crate) remedy: Remedy,
    pub(crate) reason: String,
    pub(crate) attempt: u32,
    pub(crate) parked: bool,
    pub(crate) failed_at: Timestamp,
    pub(crate) age_seconds: u64,
}

impl ReceivedMessage {
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

    /// Builds a message with this body and without a receipt handle.
    pub(crate) fn of(message_id: &str, body: String, sent_at: Timestamp) -> Self {
        Self {
            message_id: message_id.to_owned(),
            receipt_handle: String::new(),
            dead_letter: serde_json::from_str(&body).ok(),
            body,
            sent_at,
        }
    }

    /// Returns the id that operators use: the messageID of the record, else the id of the request, else SQS's id.
    pub(crate) fn id(&self) -> String {
        let dead_letter = self.dead_letter.as_ref();
        let record = dead_letter.and_then(|dead_letter| dead_letter.message_id).map(|id| id.to_string());
        let request =
            dead_letter.and_then(|dead_letter| dead_letter.request["requestId"].as_str()).map(str::to_owned);
        record.or(request).unwrap_or_else(|| self.message_id.clone())
    }

    pub(crate) fn has_id(&self, id: &str) -> bool {
        self.id() == id || self.message_id == id
    }

    pub(crate) fn stage(&self) -> &str {
        self.dead_letter.as_ref().map_or("", |dead_letter| &dead_letter.failure.stage)
    }

    pub(crate) fn kind(&self) -> String {
        self.dead_letter
            .as_ref()
            .map_or_else(|| "Foreign".to_owned(), |dead_letter| dead_letter.failure.kind.to_string())
    }

    pub(crate) fn failed_at(&self) -> Timestamp {
        self.dead_letter.as_ref().map_or(self.sent_at, |dead_letter| dead_letter.failure.failed_at)
    }

    /// Returns what helps. A dead letter does not pass by itself, although its cause may: reconcile redrives records without one.
    fn remedy(&self) -> Remedy {
        match self.dead_letter.as_ref().filter(|dead_letter| dead_letter.message_id.is_some()) {
            None => Remedy::ReadThenDiscard,
            Some(dead_letter) => match Remedy::of(&dead_letter.failure.error_name) {
                Remedy::Wait => Remedy::Redrive,
                remedy => remedy,
            },
        }
    }

    /// Returns the message as a line of a list.
    pub(crate) fn line(&self) -> Line {
        let failure = self.dead_letter.as_ref().map(|dead_letter| &dead_letter.failure);
        Line {
            id: self.id(),
            record_id: self.dead_letter.as_ref().and_then(|dead_letter| dead_letter.message_id),
            remedy: self.remedy(),
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
            parked: self.dead_letter.as_ref().is_some_and(|dead_letter| dead_letter.parked),
            failed_at: self.failed_at(),
            age_seconds: SystemClock.now().since(self.failed_at()).as_secs(),
        }
    }

    /// Returns the body as JSON: a string if the body itself is no JSON.
    pub(crate) fn content(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| Value::from(self.body.as_str()))
    }
}

/// The receipt handles of the messages that a reader hides from others, by SQS's id: [`Queue::release`] makes them visible again.
type Held = Arc<Mutex<BTreeMap<String, String>>>;

/// A reader of one queue. It returns each message once, also if SQS delivers it again.
#[derive(Debug)]
pub(crate) struct Queue {
    client: Client,
    url: String,
    seen: BTreeSet<String>,
    held: Held,
    /// The receive calls that have not ended. Each is a task of its own, so that it ends also if the command is broken off: SQS hides what
    /// it has sent, whether somebody waits for the answer or not.
    receives: JoinSet<anyhow::Result<Vec<ReceivedMessage>>>,
    /// How many messages a command has handled, for what is said when it is broken off.
    pub(crate) handled: usize,
}

impl Queue {
    pub(crate) fn new(client: Client, url: String) -> Self {
        Self {
            client,
            url,
            seen: BTreeSet::new(),
            held: Held::default(),
            receives: JoinSet::new(),
            handled: 0,
        }
    }

    /// Receives messages that were not read before, until there are `limit` or slightly more. An empty result means
    /// that the queue was read to its end.
    pub(crate) async fn receive_new(&mut self, limit: usize) -> anyhow::Result<Vec<ReceivedMessage>> {
        let mut new = Vec::new();
        let mut idle = 0;
        while new.len() < limit {
            for _ in 0..CONCURRENT_RECEIVES.min(limit.div_ceil(10)) {
                self.receives.spawn(receive(self.client.clone(), self.url.clone(), Arc::clone(&self.held)));
            }
            let mut fresh = 0;
            let mut failed = None;
            while let Some(messages) = self.receives.join_next().await {
                match messages.context("receive messages")? {
                    Ok(messages) => {
                        // SQS may deliver a message again, after its visibility timeout has ended.
                        for held in messages {
                            if self.seen.insert(held.message_id.clone()) {
                                fresh += 1;
                                new.push(held);
                            }
                        }
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            // A round without a new message does not prove the end of the queue: it may be empty by chance, or return
            // only messages whose visibility timeout has ended. So several such rounds must follow each other.
            idle = if fresh == 0 { idle + 1 } else { 0 };
            if idle == IDLE_ROUNDS {
                break;
            }
        }
        Ok(new)
    }

    /// Receives messages until all selected ids were found, until there are `limit`, or until the end of the queue. The
    /// result also has the messages that `selection` does not select.
    pub(crate) async fn receive_until_found(
        &mut self,
        selection: &Selection,
        limit: usize,
    ) -> anyhow::Result<Vec<ReceivedMessage>> {
        let mut all = Vec::new();
        while all.len() < limit && !selection.all_ids_found_in(&all) {
            let page = self.receive_new((limit - all.len()).min(1000)).await?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        Ok(all)
    }

    /// Whether no message was received.
    pub(crate) fn has_read_nothing(&self) -> bool {
        self.seen.is_empty()
    }

    /// Returns the approximate number of messages, those included that a reader hides.
    pub(crate) async fn count(&self) -> anyhow::Result<u64> {
        let visible = self.attribute(QueueAttributeName::ApproximateNumberOfMessages).await?;
        Ok(visible + self.hidden().await?)
    }

    /// Returns the approximate number of messages that a reader hides.
    pub(crate) async fn hidden(&self) -> anyhow::Result<u64> {
        self.attribute(QueueAttributeName::ApproximateNumberOfMessagesNotVisible).await
    }

    async fn attribute(&self, wanted: QueueAttributeName) -> anyhow::Result<u64> {
        let asked =
            self.client.get_queue_attributes().queue_url(&self.url).attribute_names(wanted.clone()).send();
        let attributes =
            asked.await.context("read the number of messages on the queue")?.attributes.unwrap_or_default();
        Ok(attributes.get(&wanted).and_then(|count| count.parse().ok()).unwrap_or_default())
    }

    /// Deletes a message from the queue.
    pub(crate) async fn remove(&self, held: &ReceivedMessage) -> anyhow::Result<()> {
        let delete =
            self.client.delete_message().queue_url(&self.url).receipt_handle(&held.receipt_handle).send();
        delete.await.with_context(|| format!("delete dead letter {} from the queue", held.id()))?;
        lock(&self.held).remove(&held.message_id);
        Ok(())
    }

    /// Makes all messages that were received and not removed visible to other readers again. A message for which that fails becomes
    /// visible when its visibility timeout ends, after five minutes.
    pub(crate) async fn release(&mut self) {
        while self.receives.join_next().await.is_some() {}
        let handles: Vec<String> = std::mem::take(&mut *lock(&self.held)).into_values().collect();
        let mut refusal = None;
        for page in handles.chunks(10) {
            let entries = page.iter().enumerate().filter_map(|(i, handle)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(i.to_string())
                    .receipt_handle(handle)
                    .visibility_timeout(0)
                    .build()
                    .ok()
            });
            let entries = Some(entries.collect());
            let release = self.client.change_message_visibility_batch().queue_url(&self.url);
            if let Err(error) = release.set_entries(entries).send().await {
                refusal = Some(anyhow::Error::from(error));
            }
        }
        if let Some(error) = refusal {
            eprintln!(
                "warning: other readers of the queue do not see these messages for {} min, because they could not be made visible \
                 again: {error:#}",
                VISIBILITY_TIMEOUT.as_secs() / 60
            );
        }
    }
}

/// Receives up to ten messages, and notes in `held` that they are hidden from other readers.
async fn receive(client: Client, url: String, held: Held) -> anyhow::Result<Vec<ReceivedMessage>> {
    let received = client
        .receive_message()
        .queue_url(&url)
        .max_number_of_messages(10)
        .visibility_timeout(i32::try_from(VISIBILITY_TIMEOUT.as_secs()).unwrap_or(i32::MAX))
        .wait_time_seconds(1)
        .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
        .message_attribute_names("All")
        .send()
        .await;
    let received = received.with_context(|| format!("read {url}"))?;
    let messages: Vec<_> = received.messages().iter().filter_map(ReceivedMessage::new).collect();
    // Of a message that was received twice, only the later receipt handle can make it visible again.
    let handles = messages.iter().map(|held| (held.message_id.clone(), held.receipt_handle.clone()));
    lock(&held).extend(handles);
    Ok(messages)
}

fn lock(held: &Held) -> MutexGuard<'_, BTreeMap<String, String>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command on a queue, and makes what it has read visible again however it ends: otherwise messages would stay hidden from other
/// readers for minutes. A person who breaks it off waits for that.
pub(crate) async fn released<T>(
    queue: &mut Queue,
    command: impl AsyncFnOnce(&mut Queue) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut interruption = Interruption::listen()?;
    let done = tokio::select! {
        done = command(queue) => Some(done),
        () = interruption.wait() => None,
    };
    queue.release().await;
    done.unwrap_or_else(|| Err(anyhow!("{}", broken_off(queue.handled))))
}

/// Says what a command has done that was broken off.
fn broken_off(handled: usize) -> String {
    match handled {
        0 => "broken off; nothing was changed, and what was read is on the queue again".to_owned(),
        _ => format!(
            "broken off after {}; what was not handled is on the queue again (`custody failed` shows what is left, `custody open` what \
             is in progress)",
            crate::output::format_count(handled, false, "record was handled", "records were handled")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_broken_off_says_what_it_has_done() {
        assert_eq!(broken_off(0), "broken off; nothing was changed, and what was read is on the queue again");
        assert!(broken_off(1).starts_with("broken off after 1 record was handled; what was not handled"));
        assert!(broken_off(5).starts_with("broken off after 5 records were handled; what was not handled"));
    }
}
