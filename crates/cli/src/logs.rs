//! `custody logs`: shows the log of a function.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use custody_core::clock::{Clock as _, SystemClock, Timestamp};
use serde::Serialize;
use serde_json::Value;
use strum::IntoStaticStr;

use crate::{CommandOutcome, arguments::parse_time, deployment::Deployment, output::Output};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The function whose log is shown.
    #[arg(value_enum)]
    function: Function,
    /// Show only lines at or after this time: RFC 3339, or a duration before now (`2h`, `30min`, `1d`). By default: the last hour.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Show only lines with this text, such as a messageID or the name of an error.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Show only warnings and errors.
    #[arg(long)]
    warnings: bool,
    /// Maximum number of lines to show: the newest ones.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// A function of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, IntoStaticStr)]
pub(crate) enum Function {
    Ingest,
    Query,
    Upload,
    Authorizer,
    Archive,
    Metadata,
    Aggregate,
    Failure,
    Reconcile,
    Redrive,
}

/// The time before now from which lines are shown by default.
const LAST_HOUR: Duration = Duration::from_hours(1);

/// The pattern of warnings and errors.
const WARNINGS: &str = r#"{ $.level = "WARN" || $.level = "ERROR" }"#;

/// A line that a function has logged.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    at: Option<Timestamp>,
    level: String,
    message: String,
    fields: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize)]
struct Report {
    lines: Vec<Line>,
    /// Whether older lines match too.
    truncated: bool,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let name = deployment.function_name(options.function.into())?;
    let lambda = deployment.aws.lambda();
    let configuration = lambda.get_function_configuration().function_name(&name).send().await;
    let configuration = configuration.with_context(|| format!("find the log of function {name}"))?;
    let group = configuration
        .logging_config()
        .and_then(|logging| logging.log_group())
        .with_context(|| format!("function {name} has no log group"))?;
    let earliest_ms = SystemClock.now().unix_ms() - i64::try_from(LAST_HOUR.as_millis())?;
    let since_ms = options.since.map_or(earliest_ms, Timestamp::unix_ms);

    let logs = aws_sdk_cloudwatchlogs::Client::new(deployment.aws.config());
    let mut lines = VecDeque::new();
    let mut truncated = false;
    let filter = logs.filter_log_events().log_group_name(group).start_time(since_ms);
    // CloudWatch Logs takes one pattern: by level, or by text. The other one is applied here.
    let pattern =
        if options.warnings { Some(WARNINGS.to_owned()) } else { options.contains.as_deref().map(quoted) };
    let filter = filter.set_filter_pattern(pattern);
    let mut pages = filter.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.with_context(|| format!("read the log group {group}"))?;
        let messages = page.events().iter().filter_map(|event| event.message());
        let messages =
            messages.filter(|text| options.contains.as_ref().is_none_or(|part| text.contains(part)));
        lines.extend(messages.filter_map(read).filter(|line| !options.warnings || line.is_warning()));
        // The events of a log group come in the order of time, so the first lines are the oldest.
        if lines.len() > options.limit {
            truncated = true;
            lines.drain(..lines.len() - options.limit);
        }
    }
    let mut lines = Vec::from(lines);
    lines.sort_by_key(|line| line.at);
    let is_empty = lines.is_empty();
    output.print(&Report { lines, truncated }, Report::print)?;
    if is_empty && !output.json {
        let since = Timestamp::from_unix_ms(since_ms).map(|since| since.to_string()).unwrap_or_default();
        println!(
            "the log of {} has no such line since {since}; --since looks further back",
            <&str>::from(options.function).to_lowercase()
        );
    }
    Ok(CommandOutcome::Complete)
}

/// Returns the pattern of CloudWatch Logs that means this text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Reads a line; `None` for a line of Lambda itself, and for metrics.
fn read(text: &str) -> Option<Line> {
    let Value::Object(mut fields) = serde_json::from_str(text).ok()? else { return None };
    if fields.contains_key("_aws") {
        return None;
    }
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (level, message) = (take("level")?, take("message").unwrap_or_default());
    let at = take("timestamp").and_then(|text| Timestamp::parse(&text));
    take("target");
    if let Some(Value::Object(span)) = fields.remove("span") {
        fields.extend(span.into_iter().filter(|(name, value)| name != "name" && value != ""));
    }
    Some(Line { at, level, message, fields: fields.into_iter().collect() })
}

impl Line {
    fn is_warning(&self) -> bool {
        matches!(self.level.as_str(), "WARN" | "ERROR")
    }
}

impl Report {
    fn print(&self) {
        for line in &self.lines {
            let at = line.at.map(|at| at.to_string()).unwrap_or_default();
            let fields = line.fields.iter().map(|(name, value)| match value {
                Value::String(text) => format!("  {name}={text}"),
                other => format!("  {name}={other}"),
            });
            println!("{at}  {:5}  {}{}", line.level, line.message, fields.collect::<String>());
        }
        if self.truncated {
            println!("Older lines match too; --limit shows more.");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_lines_of_the_function_itself_are_shown() {
        let line = json!({"timestamp": "2026-11-28T21:00:00.5Z", "level": "WARN", "message": "fell back",
            "record.id": "r", "size_bytes": 7, "target": "custody_core"});
        let read_line = read(&line.to_string()).unwrap();
        assert!(read_line.is_warning());
        assert_eq!((read_line.message.as_str(), read_line.fields.len()), ("fell back", 2));
        assert_eq!(read_line.at.unwrap().to_string(), "2026-11-28T21:00:00.500Z");
        for other in ["START RequestId: 1 Version: $LATEST", r#"{"_aws": {}, "level": "INFO"}"#, "7"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_text_is_searched_for_as_it_is() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
