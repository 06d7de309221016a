//! Prints the results of commands: as text for people, or as JSON for programs.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
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

/// Builds an empty table with this header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
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

/// Cuts a text for a table after `max_chars` characters, and marks the cut with `…`.
pub(crate) fn truncated_text(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
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
    fn texts_and_durations_are_short() {
        assert_eq!(truncated_text("äöü", 3), "äöü");
        assert_eq!(truncated_text("äöüx", 3), "äöü…");
        for (seconds, text) in [(59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
    }
}
