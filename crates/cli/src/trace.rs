//! `custody trace`: the way of one record, from everything that knows of it.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_sfn::error::SdkError;
use custody_common::aws::{S3Archive, S3FailedStore, StateMachine};
use custody_core::{
    clock::Timestamp,
    ports::{FailedStore as _, PayloadArchive as _},
    record_id::RecordId,
    run::Run,
    stages::reconcile::{Listing, Request},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Done,
    deployment::Deployment,
    output::{Output, human, table},
};

/// Everything that is known of a record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    received_at: Timestamp,
    /// The item, without metadata and security context; null where there is none.
    item: Value,
    executions: Vec<Execution>,
    bytes: Bytes,
    pending: Listing,
}

/// One run's execution.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Execution {
    attempt: u32,
    status: String,
    error: Option<String>,
    started_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    states: Vec<State>,
}

/// A state that an execution went through.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    name: String,
    entered_at: Timestamp,
    duration_ms: Option<u64>,
}

/// Where the payload is, and how large it is there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bytes {
    archived: Option<Place>,
    kept_as_failed: Option<Place>,
    #[serde(rename = "cachedSizeBytes")]
    cached: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    bucket: String,
    key: String,
    sha256: String,
    size_bytes: u64,
}

pub(crate) async fn run(deployment: &Deployment, output: Output, id: RecordId) -> anyhow::Result<Done> {
    let item = item(deployment, id).await?;
    let failed_attempts = item["failure"]["attempt"].as_u64().and_then(|attempt| u32::try_from(attempt).ok());
    let executions = executions(deployment, id, failed_attempts.unwrap_or(0)).await?;
    let pending = deployment.pending(Request::Find { find: id }).await?;
    let bytes = bytes(deployment, id, pending.cached_size_bytes).await?;
    let trace = Trace { message_id: id, received_at: id.received_at(), item, executions, bytes, pending };
    if !trace.is_known() {
        eprintln!("nothing knows of a record {id}: no item, no execution, no bytes, nothing pending");
        return Ok(Done::NotFound);
    }
    output.print(&trace, Trace::print)?;
    Ok(Done::All)
}

async fn item(deployment: &Deployment, id: RecordId) -> anyhow::Result<Value> {
    let mut item = deployment.item(id).await?;
    if let Some(fields) = item.as_object_mut() {
        // Who sent it and what it is about is for whoever has the right to the table.
        fields.retain(|name, _| name != "messageMetaData" && name != "messageSecurityContext");
    }
    Ok(item)
}

/// The executions of all runs, as long as there are any.
async fn executions(deployment: &Deployment, id: RecordId, known: u32) -> anyhow::Result<Vec<Execution>> {
    let client = deployment.aws.step_functions();
    let machine = StateMachine::new(client.clone(), deployment.output("StateMachineArn")?.to_owned());
    let mut executions = Vec::new();
    for attempt in 1.. {
        let arn = machine.execution_arn(Run::new(id, attempt));
        let described = match client.describe_execution().execution_arn(&arn).send().await {
            Ok(described) => described,
            Err(SdkError::ServiceError(context)) if context.err().is_execution_does_not_exist() => {
                if attempt > known {
                    break;
                }
                // Step Functions forgets executions after 90 days.
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("describe execution {arn}")),
        };
        let time = |time: Option<&aws_sdk_sfn::primitives::DateTime>| {
            time.and_then(|time| time.to_millis().ok()).and_then(Timestamp::from_unix_ms)
        };
        executions.push(Execution {
            attempt,
            status: described.status().as_str().to_owned(),
            error: described.error().map(str::to_owned),
            started_at: time(Some(described.start_date())),
            stopped_at: time(described.stop_date()),
            states: states(&client, &arn).await?,
        });
    }
    Ok(executions)
}

async fn states(client: &aws_sdk_sfn::Client, arn: &str) -> anyhow::Result<Vec<State>> {
    let mut states: Vec<State> = Vec::new();
    let history = client.get_execution_history().execution_arn(arn).include_execution_data(false);
    let mut pages = history.into_paginator().send();
    while let Some(page) = pages.next().await {
        for event in page.with_context(|| format!("read the history of {arn}"))?.events() {
            let Some(at) = event.timestamp().to_millis().ok().and_then(Timestamp::from_unix_ms) else {
                continue;
            };
            if let Some(entered) = event.state_entered_event_details() {
                states.push(State { name: entered.name().to_owned(), entered_at: at, duration_ms: None });
            }
            if let Some(exited) = event.state_exited_event_details()
                && let Some(state) =
                    states.iter_mut().rev().find(|s| s.name == exited.name() && s.duration_ms.is_none())
            {
                state.duration_ms = u64::try_from(at.since(state.entered_at).as_millis()).ok();
            }
        }
    }
    Ok(states)
}

async fn bytes(deployment: &Deployment, id: RecordId, cached: Option<u64>) -> anyhow::Result<Bytes> {
    let archive = S3Archive::new(deployment.aws.s3(), deployment.output("ArchiveBucket")?.to_owned());
    let archived = archive.find(&id.archive_key()).await?.map(|object| Place {
        bucket: object.reference.bucket,
        key: object.reference.key,
        sha256: object.sha256.to_string(),
        size_bytes: object.size_bytes,
    });
    let bucket = deployment.output("FailedBucket")?.to_owned();
    let store = S3FailedStore::new(deployment.aws.s3(), bucket.clone());
    let key = custody_core::stages::failure::kept_key(id);
    let kept_as_failed = store.fetch(&key).await?.map(|content| Place {
        bucket,
        key,
        sha256: custody_core::digest::Sha256::of(&content).to_string(),
        size_bytes: content.len() as u64,
    });
    Ok(Bytes { archived, kept_as_failed, cached })
}

impl Trace {
    fn is_known(&self) -> bool {
        !self.item.is_null()
            || !self.executions.is_empty()
            || !self.pending.pending.is_empty()
            || self.bytes.archived.is_some()
            || self.bytes.kept_as_failed.is_some()
            || self.bytes.cached.is_some()
    }

    fn print(&self) {
        let text = |name: &str| self.item[name].as_str().unwrap_or_default();
        let status = if self.item.is_null() { "not in the table" } else { text("status") };
        println!("record {}: {status}", self.message_id);
        let mut times = table(&["TIME", "AFTER", ""]);
        times.add_row([self.received_at.to_string(), String::new(), "received".to_owned()]);
        for (name, what) in [
            ("metaDataStoredAt", "metadata stored"),
            ("archivedAt", "archived"),
            ("completedAt", "completed"),
            ("failedAt", "failed"),
        ] {
            if let Some(time) = Timestamp::parse(text(name)) {
                times.add_row([time.to_string(), human(time.since(self.received_at)), what.to_owned()]);
            }
        }
        println!("{times}");
        let failure = &self.item["failure"];
        if status == "FAILED" && failure.is_object() {
            let of = |name: &str| failure[name].as_str().unwrap_or_default();
            println!(
                "failed in stage {}: {} ({}, {})",
                of("stage"),
                of("reason"),
                of("errorName"),
                of("kind")
            );
        }
        if let Some(discarded) = self.item["discarded"].as_object() {
            let of = |name: &str| discarded.get(name).and_then(Value::as_str).unwrap_or_default();
            println!("discarded at {} by {}: {}", of("at"), of("by"), of("reason"));
        }

        for execution in &self.executions {
            let error = execution.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            println!("\nrun {}: {}{error}", execution.attempt, execution.status);
            let mut lines = table(&["ENTERED", "MS", "STATE"]);
            for state in &execution.states {
                let duration = state.duration_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
                lines.add_row([&state.entered_at.to_string(), &duration, &state.name]);
            }
            println!("{lines}");
        }
        if self.executions.is_empty() {
            println!("\nno execution: Step Functions never had one, or has forgotten it");
        }

        println!("\nthe bytes:");
        for (place, what) in
            [(&self.bytes.archived, "archived"), (&self.bytes.kept_as_failed, "kept as failed")]
        {
            if let Some(Place { bucket, key, sha256, size_bytes }) = place {
                println!("  {what}: s3://{bucket}/{key}, {size_bytes} bytes, sha256 {sha256}");
            }
        }
        if self.pending.errors > 0 {
            println!("  the cache or the pending markers could not be asked");
        }
        if let Some(size) = self.bytes.cached {
            println!("  in the cache: {size} bytes");
        }
        for entry in &self.pending.pending {
            let age = human(Duration::from_secs(entry.age_seconds));
            println!("pending in run {} for {age}", entry.attempt);
        }
    }
}
