//! Compares what a deployment stored with what was sent.

use anyhow::{Context as _, bail, ensure};
use custody_core::{digest::Sha256, receipt::Receipt, record_id::RecordId};
use serde_json::Value;

use crate::{deployment::Deployment, records::Record, subscriber::Arrival};

/// Reads the item of a record as JSON; null if there is no item.
pub async fn item(deployment: &Deployment, id: RecordId) -> anyhow::Result<Value> {
    let key = aws_sdk_dynamodb::types::AttributeValue::S(id.to_string());
    let table = deployment.output("TableName")?;
    let output = deployment
        .aws
        .dynamodb()
        .get_item()
        .table_name(table)
        .key("messageID", key)
        .consistent_read(true)
        .send()
        .await;
    let item = output.with_context(|| format!("read the item of record {id}"))?.item;
    Ok(item.map(serde_dynamo::from_item).transpose().context("decode the item")?.unwrap_or_default())
}

/// Reads the content of an object.
pub async fn object(deployment: &Deployment, bucket: &str, key: &str) -> anyhow::Result<Vec<u8>> {
    let object = deployment.aws.s3().get_object().bucket(bucket).key(key).send().await;
    let body = object.with_context(|| format!("read object {key} of bucket {bucket}"))?.body;
    Ok(body.collect().await.context("read the object's body")?.to_vec())
}

/// Checks that a record is complete and equal to what was sent: its notifications, its archived bytes and its item. The
/// item can be checked after `completed` arrived, because completion is announced after the item is written.
pub async fn check_completed(
    deployment: &Deployment,
    record: &Record,
    receipt: &Receipt,
    arrivals: &[Arrival],
) -> anyhow::Result<()> {
    let id = receipt.message_id;
    if let Some(failed) = arrivals.iter().find(|arrival| arrival.stage() == "failed") {
        let failure = &failed.event["data"]["failure"];
        let text = |field: &str| failure[field].as_str().unwrap_or_default().to_owned();
        bail!("record {id} failed in stage {}: {} ({})", text("stage"), text("reason"), text("errorName"));
    }
    notifications(record, id, arrivals)?;

    let key = id.archive_key();
    let archived = object(deployment, deployment.output("ArchiveBucket")?, &key).await?;
    ensure!(
        archived == record.payload,
        "{} bytes with SHA-256 {} are archived, but {} bytes with SHA-256 {} were sent",
        archived.len(),
        Sha256::of(&archived),
        record.payload.len(),
        record.sha256()
    );

    let item = item(deployment, id).await?;
    ensure!(item["status"] == "COMPLETED", "the item's status is {}", item["status"]);
    ensure!(item["payload"]["sha256"] == record.sha256().to_string(), "the item has another digest");
    ensure!(item["messageMetaData"] == record.metadata, "the item's metadata is {}", item["messageMetaData"]);
    let storage = &item["storageContext"];
    ensure!(storage["redisReference"].is_null(), "the item still refers to the cache");
    ensure!(storage["S3Reference"]["key"] == key, "the item refers to {}", storage["S3Reference"]);
    for time in ["receivedAt", "metaDataStoredAt", "archivedAt", "completedAt"] {
        ensure!(item[time].is_string(), "the item has no {time}");
    }
    Ok(())
}

/// Checks that the record's last attempt has its four CloudEvents, and that `completed` has the latest time.
fn notifications(record: &Record, id: RecordId, arrivals: &[Arrival]) -> anyhow::Result<()> {
    check_same_id_same_content(arrivals)?;
    let attempt = arrivals.iter().filter_map(|arrival| arrival.event["data"]["attempt"].as_u64()).max();
    let attempt = attempt.context("no notification reports its attempt")?;
    let of_attempt =
        |arrival: &&Arrival| arrival.event["data"]["attempt"].as_u64().is_some_and(|of| of == attempt);
    for stage in ["received", "archived", "metadata-stored", "completed"] {
        let mut of_stage: Vec<_> =
            arrivals.iter().filter(of_attempt).filter(|a| a.stage() == stage).collect();
        // A queue may deliver an event twice, and an event may be published twice: both copies have the same
        // CloudEvents id.
        of_stage.dedup_by_key(|a| a.event["id"].clone());
        ensure!(of_stage.len() == 1, "there are {} `{stage}` notifications", of_stage.len());
        check_notification(record, id, stage, attempt, of_stage[0])?;
    }
    let time = |stage: &str| {
        arrivals
            .iter()
            .filter(of_attempt)
            .find(|a| a.stage() == stage)
            .and_then(|a| a.event["time"].as_str().map(str::to_owned))
    };
    let completed = time("completed");
    for stage in ["received", "archived", "metadata-stored"] {
        ensure!(time(stage) <= completed, "`completed` has an earlier time than `{stage}`");
    }
    let last = arrivals.iter().find(|a| a.stage() == "completed").map(|a| &a.event["data"]["storageContext"]);
    ensure!(
        last.is_some_and(|storage| storage["redisReference"].is_null()),
        "`completed` refers to the cache"
    );
    Ok(())
}

/// Checks one notification: its CloudEvents attributes, its data, and its SNS attributes.
fn check_notification(
    record: &Record,
    id: RecordId,
    stage: &str,
    attempt: u64,
    arrival: &Arrival,
) -> anyhow::Result<()> {
    let Arrival { event, attributes, .. } = arrival;
    let event_type = format!("custody.message.{stage}.v1");
    ensure!(event["specversion"] == "1.0" && event["type"] == event_type, "not a CloudEvent: {event}");
    // The id contains only record, event and attempt, so that subscribers can recognize a repeated event.
    ensure!(event["id"] == format!("{id}/{stage}/{attempt}"), "another id: {event}");
    ensure!(
        event["source"].as_str().is_some_and(|s| s.starts_with("urn:custody:")),
        "another source: {event}"
    );
    ensure!(
        event["time"].is_string() && event["datacontenttype"] == "application/json",
        "incomplete: {event}"
    );
    let data = &event["data"];
    ensure!(
        event["subject"] == id.to_string() && data["messageID"] == id.to_string(),
        "of another record: {event}"
    );
    ensure!(data["messageMetaData"] == record.metadata, "other metadata: {event}");
    ensure!(data["payload"]["sha256"] == record.sha256().to_string(), "another digest: {event}");
    let known = data["state"].as_object().context("no state")?;
    let is_known = |name: &str| known.get(name) == Some(&Value::from(true));
    ensure!(known.values().all(|value| value == true), "a notification says only what is true: {event}");
    ensure!(
        is_known("S3Persisted") || !["archived", "completed"].contains(&stage),
        "S3Persisted is missing: {event}"
    );
    ensure!(
        is_known("metaDataPersisted") || !["metadata-stored", "completed"].contains(&stage),
        "metaDataPersisted is missing: {event}"
    );
    let of = |name: &str| attributes.get(name).map(String::as_str);
    ensure!(of("type") == Some(&event_type), "attribute type is {:?}", of("type"));
    ensure!(of("messageType") == record.metadata["messageType"].as_str(), "attribute messageType differs");
    ensure!(
        of("sourceSystemID") == record.metadata["sourceSystemID"].as_str(),
        "attribute sourceSystemID differs"
    );
    Ok(())
}

/// Checks that notifications with the same CloudEvents id have the same content.
pub fn check_same_id_same_content(arrivals: &[Arrival]) -> anyhow::Result<()> {
    for one in arrivals {
        for other in arrivals.iter().filter(|other| other.event["id"] == one.event["id"]) {
            ensure!(one.event == other.event, "same id, other content: {} and {}", one.event, other.event);
        }
    }
    Ok(())
}
