//! Prints the results of commands: as text for people, or as JSON for programs.

use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use custody_core::error::{ErrorKind, StageError};
use serde::Serialize;
use serde_json::json;

/// Output format of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON if `--json` is given, and calls `text` to print it otherwise.
    pub(crate) fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T)) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(value)?);
        } else {
            text(value);
        }
        Ok(())
    }

    /// Prints on standard error why something was not done.
    pub(crate) fn complain(self, reason: &str) {
        if self.json {
            eprintln!("{}", json!({ "error": reason }));
        } else {
            eprintln!("error: {reason}");
        }
    }
}

/// Returns an error with its causes, for a person. What the AWS SDK says of an error that it does not know (`unhandled error`, and the
/// error as Rust prints it) becomes the code and the text that the service sent.
pub(crate) fn plain_error(error: &anyhow::Error) -> String {
    let quoted = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("{name}: \""))?;
        let mut is_escaped = false;
        let end = rest.find(|char| {
            let ends = char == '"' && !is_escaped;
            is_escaped = char == '\\' && !is_escaped;
            ends
        })?;
        Some(rest[..end].replace("\\\"", "\""))
    };
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if text == "service error" || text.starts_with("unhandled error") {
            continue;
        }
        let part = if text.starts_with("Error { ") {
            let code = quoted(&text, "code").unwrap_or_else(|| "the service refused".to_owned());
            quoted(&text, "message").map_or(code.clone(), |message| format!("{code}: {message}"))
        } else {
            text
        };
        // An error may end with the text of its cause.
        if !parts.last().is_some_and(|last| last.ends_with(&part)) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// Returns whether a service is away or overloaded, so that no permission is missing.
pub(crate) fn is_outage(error: &anyhow::Error) -> bool {
    let stage_error = error.chain().find_map(|cause| cause.downcast_ref::<StageError>());
    let text = plain_error(error);
    stage_error.is_some_and(|error| error.kind() == ErrorKind::Transient)
        || OUTAGES.iter().any(|code| text.contains(code))
}

/// Codes and texts of services that are away or overloaded. Which service answers with which of them is unverified.
const OUTAGES: [&str; 6] = [
    "ServiceUnavailable",
    "InternalFailure",
    "InternalError",
    "InternalServerError",
    "Throttl",
    "answered 503",
];

/// The width of a table on a narrower terminal, which breaks its lines.
const NARROWEST: u16 = 60;

/// Builds an empty table with this header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    // A terminal that does not tell its width reports none, or columns of a character each.
    if table.width().is_some_and(|width| width < NARROWEST) {
        table.set_width(NARROWEST);
    }
    table
}

/// Builds an empty table whose first column is an id, which is never broken, because people copy it.
pub(crate) fn table_with_id(header: &[&str]) -> Table {
    let mut table = table(header);
    if let Some(ids) = table.column_mut(0) {
        ids.set_constraint(ColumnConstraint::ContentWidth);
    }
    table
}

/// Formats a duration in at most two units.
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Formats a duration in milliseconds below a second, in tenths of a second below ten seconds, and like [`format_duration`] above.
pub(crate) fn format_short_duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        1000..10_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format_duration(duration),
    }
}

/// Formats a count and its noun: `3 failed records`. With `at_least`, the count stopped at a limit: `at least 100000
/// failed records`.
pub(crate) fn format_count(count: usize, at_least: bool, one: &str, many: &str) -> String {
    let name = if count == 1 && !at_least { one } else { many };
    let qualifier = if at_least { "at least " } else { "" };
    format!("{qualifier}{count} {name}")
}

/// Formats the line below a list: the count, and how many entries the list shows if it does not show all of them.
pub(crate) fn format_shown_count(
    shown: usize,
    count: usize,
    at_least: bool,
    one: &str,
    many: &str,
) -> String {
    let all = format_count(count, at_least, one, many);
    if shown == count && !at_least { all } else { format!("{shown} shown of {all}; --limit shows more") }
}

/// Shortens a text to `max_chars` characters. The cut is in the middle, because the end of an error says what was denied.
pub(crate) fn cut_in_the_middle(text: &str, max_chars: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= max_chars {
        return text.to_owned();
    }
    let (head, tail) = ((max_chars - 1) / 3, max_chars - 1 - (max_chars - 1) / 3);
    let text = |part: &[char]| part.iter().collect::<String>();
    format!("{}…{}", text(&chars[..head]), text(&chars[chars.len() - tail..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_stopped_at_a_limit_is_marked_at_least() {
        let format = |count, at_least| format_count(count, at_least, "failed record", "failed records");
        assert_eq!(format(0, false), "0 failed records");
        assert_eq!(format(1, false), "1 failed record");
        assert_eq!(format(1, true), "at least 1 failed records");
        assert_eq!(format(100_000, true), "at least 100000 failed records");
        let shown = |shown, count, at_least| format_shown_count(shown, count, at_least, "record", "records");
        assert_eq!(shown(3, 3, false), "3 records");
        assert_eq!(shown(2, 3, false), "2 shown of 3 records; --limit shows more");
        assert_eq!(shown(3, 3, true), "3 shown of at least 3 records; --limit shows more");
    }

    #[test]
    fn an_error_of_a_service_is_its_code_and_its_text() {
        let raw =
            r#"Error { code: "AccessDenied", message: "User \"x\", may not: sts", aws_request_id: "7" }"#;
        let error =
            anyhow::anyhow!("{raw}").context("unhandled error (AccessDenied)").context("service error");
        let error = error.context("find stack `custody`");
        assert_eq!(plain_error(&error), "find stack `custody`: AccessDenied: User \"x\", may not: sts");
        assert_eq!(plain_error(&anyhow::anyhow!("a").context("b")), "b: a");
        assert_eq!(plain_error(&anyhow::anyhow!("a").context("b: a")), "b: a", "a cause is said once");
        let bare = anyhow::anyhow!("Error {{ code: \"Throttling\" }}");
        assert_eq!(plain_error(&bare), "Throttling");
        assert!(is_outage(&bare) && !is_outage(&error), "to be denied is no outage");
        let away = StageError::new(custody_core::error::ErrorName::ArchiveUnavailable, "look");
        assert!(is_outage(&anyhow::Error::new(away).context("list")));
    }

    #[test]
    fn texts_and_durations_are_short() {
        assert_eq!(cut_in_the_middle("äöü", 3), "äöü");
        let cut = cut_in_the_middle("store object 2026: AccessDenied: s3:PutObject", 20);
        assert_eq!(cut, "store … s3:PutObject");
        assert_eq!(cut_in_the_middle(&"ä".repeat(100), 20).chars().count(), 20);
        for (seconds, text) in [(59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }
}
