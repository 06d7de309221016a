//! Dead letters and rejected requests, which tests take off their queues.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use custody_test_client::{deployment::Deployment, queue};
use serde_json::Value;

use crate::{PATIENCE, Stack, environment::append_to_file};

static DEAD_LETTERS: OnceLock<ReadMessages> = OnceLock::new();
static REJECTED_REQUESTS: OnceLock<ReadMessages> = OnceLock::new();

type ReadMessages = Arc<Mutex<Vec<Value>>>;

impl Stack {
    /// Waits for a dead letter for which `wanted` returns `true`.
    pub async fn dead_letter(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        wait_for_message(self.dead_letters(), wanted).await
    }

    /// Waits for a rejected request for which `wanted` returns `true`.
    pub async fn rejected_request(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let requests = REJECTED_REQUESTS.get_or_init(|| self.read_queue("RejectedQueueUrl"));
        wait_for_message(requests, wanted).await
    }

    /// Returns the number of dead letters so far for which `wanted` returns `true`.
    pub fn count_dead_letters(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        let dead_letters = self.dead_letters().lock().unwrap_or_else(PoisonError::into_inner);
        dead_letters.iter().filter(|dead_letter| wanted(&dead_letter["body"])).count()
    }

    /// Returns the dead letters that have arrived. The first call starts to take dead letters off their queue. A test
    /// that reads the queue itself, as an operator does, must not use this function.
    fn dead_letters(&self) -> &'static ReadMessages {
        DEAD_LETTERS.get_or_init(|| self.read_queue("DeadLetterQueueUrl"))
    }

    fn read_queue(&self, queue: &str) -> ReadMessages {
        let dead_letters = ReadMessages::default();
        start_reading_queue(&self.deployment, queue, Arc::clone(&dead_letters))
            .expect("the queue's reader starts");
        dead_letters
    }
}

async fn wait_for_message(
    dead_letters: &ReadMessages,
    wanted: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = {
            let dead_letters = dead_letters.lock().unwrap_or_else(PoisonError::into_inner);
            dead_letters.iter().find(|dead_letter| wanted(&dead_letter["body"])).cloned()
        };
        match found {
            Some(dead_letter) => return Ok(dead_letter),
            None if Instant::now() > deadline => bail!("no such dead letter arrived"),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn start_reading_queue(
    deployment: &Deployment,
    queue: &str,
    dead_letters: ReadMessages,
) -> anyhow::Result<()> {
    let url = deployment.output(queue)?.to_owned();
    queue::read_in_background(deployment.aws.clone(), url, move |message| {
        let text = message.body().unwrap_or_default();
        append_to_messages_file(text).expect("the stack's folder can be written");
        let body: Value = serde_json::from_str(text).unwrap_or_default();
        let dead_letter = serde_json::json!({"body": body, "attributes": queue::attributes(message)});
        dead_letters.lock().unwrap_or_else(PoisonError::into_inner).push(dead_letter);
    })
}

/// Appends the text of a message to a file of the stack, in which the search for secrets finds it. A message is gone
/// from its queue after it was read.
pub(crate) fn append_to_messages_file(text: &str) -> anyhow::Result<()> {
    append_to_file("messages-seen.log", text)
}
