//! Text for people, JSON for programs.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints `value` as JSON, or what `text` prints.
    pub(crate) fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T)) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(value)?);
        } else {
            text(value);
        }
        Ok(())
    }
}

/// A table with this header.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

/// A duration in at most two units.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A count of things, honest about what was not counted: `3 failed records`, `at least 100000 failed records`.
pub(crate) fn counted(count: usize, at_least: bool, one: &str, many: &str) -> String {
    let name = if count == 1 && !at_least { one } else { many };
    let qualifier = if at_least { "at least " } else { "" };
    format!("{qualifier}{count} {name}")
}

/// The line below a list that may show less than there is.
pub(crate) fn shown_of(shown: usize, count: usize, at_least: bool, one: &str, many: &str) -> String {
    let all = counted(count, at_least, one, many);
    if shown == count && !at_least { all } else { format!("{shown} shown of {all}; --limit shows more") }
}

/// The beginning of a text, for a table.
pub(crate) fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_when_it_is_not_all() {
        let counted = |count, at_least| counted(count, at_least, "failed record", "failed records");
        assert_eq!(counted(0, false), "0 failed records");
        assert_eq!(counted(1, false), "1 failed record");
        assert_eq!(counted(1, true), "at least 1 failed records");
        assert_eq!(counted(100_000, true), "at least 100000 failed records");
        let shown = |shown, count, at_least| shown_of(shown, count, at_least, "record", "records");
        assert_eq!(shown(3, 3, false), "3 records");
        assert_eq!(shown(2, 3, false), "2 shown of 3 records; --limit shows more");
        assert_eq!(shown(3, 3, true), "3 shown of at least 3 records; --limit shows more");
    }

    #[test]
    fn texts_and_durations_are_short() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüx", 3), "äöü…");
        for (seconds, text) in [(59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }
}
