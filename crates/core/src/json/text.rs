//! Text for people and for queues, made from JSON and from JSON errors.

use std::borrow::Cow;

/// Returns at most 64 characters of a producer's text, for an error message. Control characters and noncharacters are
/// replaced.
pub fn excerpt(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(64)
        .map(|c| if c.is_control() || is_noncharacter(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a character is U+FFFE or U+FFFF. Both are valid in JSON and in Rust, but SQS and SNS reject a message that
/// contains them. Source: the reference of SQS `SendMessage`, "A message can include only XML, JSON, and unformatted
/// text".
pub fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// Returns JSON text that SQS and SNS accept: U+FFFE and U+FFFF, which they reject, are escaped. They occur inside
/// strings only.
pub fn for_messages(json: &str) -> Cow<'_, str> {
    if json.contains(is_noncharacter) {
        Cow::Owned(json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"))
    } else {
        Cow::Borrowed(json)
    }
}

/// Returns the byte offset in `text` of an error's line and column.
pub fn error_offset(text: &str, error: &serde_json::Error) -> usize {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .nth(line - 2)
            .map_or(text.len(), |(newline, _)| newline + 1),
    };
    (line_start + error.column().saturating_sub(1)).min(text.len())
}

/// Returns an error's message without the position that `serde_json` appends to it.
pub fn error_text(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(position) => text[..position].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::RawObject;

    #[test]
    fn what_sqs_refuses_is_escaped() {
        assert_eq!(for_messages("{\"a\u{ffff}\":\"\u{fffe}x\"}"), r#"{"a\uffff":"\ufffex"}"#);
        assert!(matches!(for_messages("{}"), Cow::Borrowed(_)));
        assert_eq!(excerpt("a\u{ffff}\n"), "a\u{fffd}\u{fffd}");
    }

    #[test]
    fn an_error_points_at_the_byte_where_reading_stopped() {
        for (text, offset) in [("{\"a\": x}", 6), ("{\n\"a\": 1,\n}", 10), ("{\"a\": \"", 6)] {
            let error = serde_json::from_str::<RawObject<'_>>(text).unwrap_err();
            assert_eq!(error_offset(text, &error), offset, "{text}: {error}");
            assert!(!error_text(&error).contains("line"));
        }
    }
}
