//! Reads a queue in a thread until the process ends.

use std::{collections::HashMap, thread, time::Duration};

use anyhow::Context as _;
use aws_sdk_sqs::types::Message;
use custody_aws::Aws;

/// Starts a thread that passes each message of a queue to `note` and then deletes it. The thread runs until the process
/// ends. A message that it received and did not delete becomes visible to the next reader after two seconds.
pub fn read_in_background(
    aws: Aws,
    url: String,
    mut note: impl FnMut(&Message) + Send + 'static,
) -> anyhow::Result<()> {
    let read = async move {
        let client = aws.sqs();
        loop {
            let received = client
                .receive_message()
                .queue_url(&url)
                .max_number_of_messages(10)
                .visibility_timeout(2)
                .wait_time_seconds(5)
                .message_attribute_names("All")
                .send()
                .await;
            let Ok(received) = received else {
                // Tests restart the deployment, so the thread tries again after a failed receive.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            };
            for message in received.messages() {
                note(message);
                if let Some(handle) = message.receipt_handle() {
                    // A message that is not deleted is delivered again. Readers must handle repeated deliveries anyway.
                    client.delete_message().queue_url(&url).receipt_handle(handle).send().await.ok();
                }
            }
        }
    };
    thread::Builder::new()
        .name("queue reader".to_owned())
        .spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(read);
            }
        })
        .context("start a thread that reads the queue")?;
    Ok(())
}

/// Returns the text attributes of a message, by name.
pub fn attributes(message: &Message) -> HashMap<String, String> {
    let attributes = message.message_attributes().into_iter().flatten();
    attributes.filter_map(|(name, value)| Some((name.clone(), value.string_value()?.to_owned()))).collect()
}
