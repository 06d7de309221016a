//! Lists and shows dead letters and rejected requests. Both stay on their queue.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock},
    digest::Sha256,
    message::S3Reference,
    ports::FailedStore,
};
use serde_json::{Value, json};

use super::{Contents, groups::group};
use crate::{
    CommandOutcome,
    deployment::Deployment,
    output::{Output, cut_in_the_middle, format_count, format_duration, table_with_id},
    progress::Progress,
    queue::{Line, Queue, ReceivedMessage},
    redrives,
    selection::{Filter, Selection},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// List each message in a line of its own, which may be wide.
    #[arg(long)]
    each: bool,
    /// Maximum number of messages to read.
    #[arg(long, default_value_t = 100_000)]
    limit: usize,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) async fn list(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    Options { each, limit, filter }: Options,
    contents: Contents,
) -> anyhow::Result<CommandOutcome> {
    // To find the end of a queue takes some seconds.
    let progress = Progress::new();
    progress.begin("reading the queue");
    let held = queue.receive_until_found(&Selection::default(), limit).await;
    progress.done();
    let held = held?;
    let read = held.len();
    let mut lines: Vec<_> =
        held.iter().filter(|held| filter.selects(held)).map(ReceivedMessage::line).collect();
    // Before anything is printed: who reads only the first line ends this program there.
    queue.release().await;
    lines.sort_by_key(|line| line.failed_at);
    let waiting = match contents {
        Contents::DeadLetters if !output.json && filter.is_empty() => {
            // The queue is shown also while the open-record table is away.
            redrives::waiting(&deployment.open_records()?, SystemClock.now()).await.unwrap_or_else(|error| {
                eprintln!("warning: which records wait for a redrive is not known: {error}");
                Vec::new()
            })
        }
        Contents::DeadLetters | Contents::RejectedRequests => Vec::new(),
    };
    let hidden = if read == 0 { queue.hidden().await? } else { 0 };
    output.print(&lines, |lines| {
        if hidden > 0 {
            println!("{}", hidden_text(hidden, contents));
            return;
        }
        if lines.is_empty() && read > 0 {
            println!("None of the {} on the queue matches.", contents.format_count(read, read >= limit));
            return;
        }
        if lines.is_empty() {
            println!("The queue has no {}.", contents.format_count(0, false).trim_start_matches("0 "));
            return;
        }
        if !each {
            print_groups(lines, read >= limit, contents);
            return;
        }
        let mut table = table_with_id(&["ID", "STAGE", "KIND", "REASON", "ATTEMPT", "AGE", "HELPS"]);
        for line in lines {
            let kind = if line.parked { format!("{}, parked", line.kind) } else { line.kind.clone() };
            let reason = cut_in_the_middle(&line.reason, 120);
            let age = format_duration(Duration::from_secs(line.age_seconds));
            table.add_row([
                &*line.id,
                &line.stage,
                &kind,
                &reason,
                &line.attempt.to_string(),
                &age,
                line.remedy.text(),
            ]);
        }
        println!("{table}\n{}", contents.format_count(lines.len(), read >= limit));
    })?;
    if !waiting.is_empty() {
        println!("{}", redrives::list(&waiting, SystemClock.now()));
    }
    Ok(if hidden > 0 { CommandOutcome::Partial } else { CommandOutcome::Complete })
}

/// Says that messages cannot be read, because somebody else has received them.
pub(super) fn hidden_text(hidden: u64, contents: Contents) -> String {
    let count = contents.format_count(usize::try_from(hidden).unwrap_or(usize::MAX), false);
    format!(
        "{count} cannot be read: another reader has received and not returned what is there. It is back within 5 minutes."
    )
}

fn print_groups(lines: &[Line], at_least: bool, contents: Contents) {
    let groups = group(lines);
    for group in &groups {
        println!("{}\n", group.text());
    }
    let (count, command) = (contents.format_count(lines.len(), at_least), contents.command());
    let groups = format_count(groups.len(), false, "group", "groups");
    println!(
        "{count} in {groups}. `custody {command} list --each` lists each, `custody {command} show ID` shows one."
    );
}

pub(crate) async fn show(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    id: &str,
    contents: Contents,
) -> anyhow::Result<CommandOutcome> {
    if !find(deployment, queue, output, id).await? {
        let hint = match contents {
            Contents::DeadLetters => {
                format!(
                    "; `custody trace {id}` shows the state of a record, `custody rejected show {id}` a rejected request"
                )
            }
            Contents::RejectedRequests => String::new(),
        };
        output.complain(&format!("the queue has no message with the id {id}{hint}"));
        return Ok(CommandOutcome::NotFound);
    }
    Ok(CommandOutcome::Complete)
}

/// Shows the messages with this id. Returns whether there are any.
pub(crate) async fn find(
    deployment: &Deployment,
    queue: &mut Queue,
    output: Output,
    id: &str,
) -> anyhow::Result<bool> {
    let found = super::receive_selected(queue, &Selection::of_id(id)).await?;
    queue.release().await;
    if found.is_empty() {
        return Ok(false);
    }
    let store = deployment.failed_store()?;
    let mut shown = Vec::new();
    for held in &found {
        let mut content = held.content();
        if let Some(request) = stored_request(&store, held).await? {
            content["storedRequest"] = request;
        }
        shown.push(content);
    }
    output.print(&shown, |shown| {
        for (held, content) in found.iter().zip(shown) {
            let line = held.line();
            println!(
                "{}  {} failed in stage {}, attempt {}",
                line.failed_at, line.id, line.stage, line.attempt
            );
            println!("{} ({}): {}", line.error_name, line.kind, line.reason);
            let mut content = content.clone();
            shorten(&mut content);
            println!("{}", serde_json::to_string_pretty(&content).unwrap_or_default());
        }
    })?;
    Ok(true)
}

/// The longest text of a message that is shown to a person.
const LONGEST_TEXT: usize = 2000;

/// Shortens the texts in a message, such as the body of a request that is too large.
fn shorten(content: &mut Value) {
    match content {
        Value::String(text) if text.len() > LONGEST_TEXT => {
            let cut = cut_in_the_middle(text, LONGEST_TEXT);
            *text = format!("{cut} ({} bytes, which --json shows)", text.len());
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

/// Reads the stored parts of a request that never became a record; `None` for a record, or if nothing is stored.
async fn stored_request(store: &impl FailedStore, held: &ReceivedMessage) -> anyhow::Result<Option<Value>> {
    let Some(dead_letter) = held.dead_letter.as_ref().filter(|dead_letter| dead_letter.message_id.is_none())
    else {
        return Ok(None);
    };
    let Some(S3Reference { bucket, key }) = &dead_letter.failure.payload_reference else { return Ok(None) };
    let content = store.fetch(key).await.with_context(|| format!("read s3://{bucket}/{key}"))?;
    Ok(content.map(|content| {
        serde_json::from_slice(&content).unwrap_or_else(
            |_| json!({"sizeBytes": content.len(), "sha256": Sha256::of(&content).to_string()}),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_the_ends_of_a_long_text_and_its_size() {
        let mut content =
            json!({"request": {"body": "x".repeat(6_000_000), "path": "/ingestMessage"}, "attempts": [1]});
        shorten(&mut content);
        let body = content["request"]["body"].as_str().unwrap();
        assert!(body.len() < 2100 && body.ends_with("x (6000000 bytes, which --json shows)"), "{body}");
        assert_eq!(
            (&content["request"]["path"], &content["attempts"]),
            (&json!("/ingestMessage"), &json!([1]))
        );
    }
}
