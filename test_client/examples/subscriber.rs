//! The consumer in Rust of `docs/subscribers.md`, with the page's program as it stands there.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example for subscribers")]

use std::time::Duration;

async fn consume(sqs: aws_sdk_sqs::Client, url: String) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all("seen")?;
    loop {
        let receive = sqs.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(20);
        for message in receive.send().await?.messages() {
            let body = message.body().unwrap_or_default();
            let event: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            // What is not of Custody is a dead letter after five tries.
            let fields = ["id", "type", "subject"].map(|field| event[field].as_str());
            let [Some(id), Some(kind), Some(subject)] = fields else {
                eprintln!("not of Custody: message {}", message.message_id().unwrap_or_default());
                continue;
            };
            let note = std::path::Path::new("seen").join(id.replace('/', "_"));
            if !note.exists() {
                println!("{kind} {subject}"); // Your work.
                std::fs::write(note, "")?;
            }
            let handle = message.receipt_handle().unwrap_or_default();
            sqs.delete_message().queue_url(&url).receipt_handle(handle).send().await?;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A long poll takes longer than Custody's own clients wait.
    let aws = custody_aws::Aws::load().await.with_long_calls(Duration::from_mins(1));
    consume(aws.sqs(), std::env::var("QUEUE_URL").map_err(|_| "set QUEUE_URL to the address of the queue")?)
        .await
}
