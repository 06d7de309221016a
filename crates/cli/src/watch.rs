//! `custody watch`: shows notifications while they are published, from a queue of its own that is gone afterwards.

mod queue;

use std::io::Write as _;

use clap::{Args, ValueEnum};
use custody_core::{access::SourcePattern, record_id::RecordId};
use serde_json::{Value, json};

use self::queue::WatchQueue;
pub(crate) use self::queue::WatchQueues;
use crate::{CommandOutcome, deployment::Deployment, interruption::Interruption, output::Output};

/// The options of `custody watch`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Show only records of this `sourceSystemID`: one id (`loans`), or a prefix (`cards-*`). Can be repeated.
    #[arg(long = "source", value_name = "PATTERN")]
    sources: Vec<SourcePattern>,
    /// Show only notifications of this type. Can be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<Type>,
    /// Show only the notifications of this record.
    #[arg(long, value_name = "ID")]
    id: Option<RecordId>,
    /// End after this number of notifications. Without it, Ctrl-C ends the command.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// A type of notification.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    Received,
    Archived,
    MetadataStored,
    Completed,
    Failed,
    Discarded,
}

impl Type {
    fn full_name(self) -> String {
        let name = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        format!("custody.message.{name}.v1")
    }
}

impl Options {
    /// Returns the filter policy of the subscription. An empty policy selects everything.
    fn filter_policy(&self) -> Value {
        let mut policy = json!({});
        if !self.types.is_empty() {
            policy["type"] = self.types.iter().map(|of| of.full_name()).collect();
        }
        if !self.sources.is_empty() {
            policy["sourceSystemID"] = self.sources.iter().map(source_rule).collect();
        }
        policy
    }
}

/// Returns the rule of a filter policy that matches as the pattern does.
fn source_rule(source: &SourcePattern) -> Value {
    let text = source.to_string();
    match text.strip_suffix('*') {
        Some(prefix) => json!({ "prefix": prefix }),
        None => json!(text),
    }
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let queue = deployment.watch_queue()?;
    queue.delete_leftovers().await?;
    // It listens before there is a queue, which a signal in between would leave behind.
    let mut interruption = Interruption::listen()?;
    let watched = queue.create(&options.filter_policy()).await?;
    eprintln!("Watching; Ctrl-C ends it.");
    // Whatever ends the command, also an error or a closed pipe, the queue is deleted.
    let shown = tokio::select! {
        shown = show(&watched, output, &options) => shown,
        () = interruption.wait() => Ok(()),
    };
    watched.delete().await?;
    shown?;
    Ok(CommandOutcome::Complete)
}

/// Prints the notifications that the options select, until there were enough or nobody reads on.
async fn show(watched: &WatchQueue, output: Output, options: &Options) -> anyhow::Result<()> {
    let mut shown = 0;
    loop {
        for event in watched.receive().await? {
            if options.id.is_some_and(|id| event["subject"] != id.to_string()) {
                continue;
            }
            let line = if output.json { event.to_string() } else { line(&event) };
            if writeln!(std::io::stdout(), "{line}").is_err() {
                return Ok(());
            }
            shown += 1;
            if options.count == Some(shown) {
                return Ok(());
            }
        }
    }
}

/// Returns the line of a notification for a person.
fn line(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/type").trim_start_matches("custody.message.").trim_end_matches(".v1");
    let attempt = match &event["data"]["attempt"] {
        Value::Number(number) if number.as_u64() > Some(1) => format!("  attempt {number}"),
        _ => String::new(),
    };
    let reason = [text("/data/discard/reason"), text("/data/failure/reason")];
    let reason = reason.into_iter().find(|reason| !reason.is_empty()).unwrap_or_default();
    let reason = if reason.is_empty() { String::new() } else { format!("  {reason}") };
    format!(
        "{}  {name:<15}  {}  {}{attempt}{reason}",
        text("/time"),
        text("/subject"),
        text("/data/messageMetaData/sourceSystemID"),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Watch {
        #[command(flatten)]
        options: Options,
    }

    fn policy(arguments: &[&str]) -> Value {
        Watch::parse_from([&["watch"], arguments].concat()).options.filter_policy()
    }

    #[test]
    fn the_options_become_a_filter_policy() {
        assert_eq!(policy(&[]), json!({}));
        assert_eq!(
            policy(&[
                "--source",
                "loans",
                "--source",
                "cards-*",
                "--type",
                "failed",
                "--type",
                "metadata-stored"
            ]),
            json!({
                "type": ["custody.message.failed.v1", "custody.message.metadata-stored.v1"],
                "sourceSystemID": ["loans", {"prefix": "cards-"}],
            })
        );
    }

    #[test]
    fn a_line_names_the_record_and_what_happened() {
        let completed = json!({
            "type": "custody.message.completed.v1", "subject": "019e1f4b", "time": "2026-11-20T22:21:00.000Z",
            "data": {"attempt": 1, "messageMetaData": {"sourceSystemID": "loans"}},
        });
        assert_eq!(line(&completed), "2026-11-20T22:21:00.000Z  completed        019e1f4b  loans");
        let failed = json!({
            "type": "custody.message.failed.v1", "subject": "019e1f4b", "time": "2026-11-20T22:21:00.000Z",
            "data": {"attempt": 2, "messageMetaData": {"sourceSystemID": "loans"}, "failure": {"reason": "denied"}},
        });
        assert_eq!(
            line(&failed),
            "2026-11-20T22:21:00.000Z  failed           019e1f4b  loans  attempt 2  denied"
        );
        let discarded = json!({
            "type": "custody.message.discarded.v1", "subject": "019e1f4b", "time": "2026-11-20T22:21:00.000Z",
            "data": {
                "attempt": 1, "messageMetaData": {"sourceSystemID": "loans"}, "failure": {"reason": "denied"},
                "discard": {"reason": "withdrawn"},
            },
        });
        assert!(line(&discarded).ends_with("discarded        019e1f4b  loans  withdrawn"));
    }

    #[test]
    fn every_type_of_notification_can_be_chosen() {
        let schema = include_str!("../../../docs/notification.schema.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        let known = schema["properties"]["type"]["enum"].as_array().unwrap();
        let ours: Vec<_> = Type::value_variants().iter().map(|of| json!(of.full_name())).collect();
        assert_eq!(&ours, known);
    }
}
