//! `show`: sends one record and prints each step of its processing.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use custody_core::digest::Sha256;
use custody_test_client::{
    deployment::Deployment,
    records::{Kind, Record, Size, human_size},
    sender::Sender,
    subscriber::Subscriber,
    verify,
};

/// The size of the generated sample, in bytes: a 3 MB image is what producers of this format send.
const SAMPLE_BYTES: usize = 3 * 1024 * 1024;

pub(crate) async fn run(
    deployment: &Deployment,
    file: Option<&Path>,
    timeout: Duration,
) -> anyhow::Result<bool> {
    let record = match file {
        Some(file) => Record::from_file(file)?,
        None => Record::generate(Kind::Png, Size::Bytes(SAMPLE_BYTES), 20_261_120),
    };
    let subscriber = Subscriber::start(deployment)?;
    let sender = Sender::new(deployment)?;

    println!("\n1. A producer posts a record: {}", record.label);
    println!("   POST {}", deployment.output("IngestUrl")?);
    println!(
        "   payload {} ({} in the request), sha256 {}",
        human_size(record.payload.len()),
        human_size(record.body.len()),
        record.sha256()
    );
    let acknowledged = sender.send(&record).await?;
    let receipt = &acknowledged.receipt;
    println!("\n2. The receipt, after {} ms:", acknowledged.latency.as_millis());
    print_json(&serde_json::to_value(receipt)?);

    println!("\n3. What a subscriber of the notifications got:");
    let mut arrivals = subscriber.follow(receipt.message_id, timeout).await?;
    // The events are sorted by their own times, because a standard queue delivers in any order.
    arrivals.sort_by(|a, b| a.event["time"].as_str().cmp(&b.event["time"].as_str()));
    for arrival in &arrivals {
        let after = arrival.at.saturating_duration_since(acknowledged.sent_at).as_millis();
        let event = &arrival.event;
        println!("   {after:>5} ms  {:<36} {}", text(&event["type"]), text(&event["data"]["message"]));
    }

    let mut item = verify::item(deployment, receipt.message_id).await?;
    item.sort_all_objects();
    println!("\n4. The metadata item in DynamoDB:");
    print_json(&item);

    println!("\n5. The archived bytes in S3:");
    let (bucket, key) = (deployment.output("ArchiveBucket")?, receipt.message_id.archive_key());
    let archived = verify::object(deployment, bucket, &key).await?;
    let digest = Sha256::of(&archived);
    println!("   s3://{bucket}/{key}");
    println!("   {} bytes, sha256 {digest}", archived.len());

    let checked = verify::check_completed(deployment, &record, receipt, &arrivals).await;
    match checked {
        Ok(()) => {
            println!(
                "\n✓ received, archived, indexed and completed: the archived bytes have the digest in the receipt"
            );
            Ok(true)
        }
        Err(error) => {
            println!("\n✗ {error:#}");
            Ok(false)
        }
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn print_json(value: &serde_json::Value) {
    let text = serde_json::to_string_pretty(value).context("format JSON").unwrap_or_default();
    for line in text.lines() {
        println!("   {line}");
    }
}
