//! JSON and its errors as text that people and queues can take.

use std::borrow::Cow;

/// At most 64 characters of a text that a producer sent, for an error message.
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

/// The two characters that are valid in JSON and in Rust, and that SQS and SNS refuse in a message. Source: the
/// reference of SQS `SendMessage`, "A message can include only XML, JSON, and unformatted text".
pub fn is_noncharacter(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

/// JSON text that SQS and SNS take: the two characters that they refuse are escaped. They occur inside strings only.
pub fn for_messages(json: &str) -> Cow<'_, str> {
    if json.contains(is_noncharacter) {
        Cow::Owned(json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"))
    } else {
        Cow::Borrowed(json)
    }
}

/// The byte offset in `text` of an error's line and column.
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

/// What an error says, without the position that `serde_json` appends to it.
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
