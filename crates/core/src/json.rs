//! Reading JSON without losing any of it: objects whose duplicate keys are errors and whose values stay
//! the text that was sent.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value, value::RawValue};

/// The fields of one JSON object in the order sent, each value as the bytes that were sent.
///
/// A repeated key is an error: two readers of the same record could otherwise see different values.
#[derive(Debug)]
pub struct RawObject<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> RawObject<'a> {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// All fields, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                // A set, because the object comes from outside and may have a million keys.
                let mut seen: HashSet<Cow<'de, str>> = HashSet::new();
                while let Some(Text(key)) = map.next_key()? {
                    if !seen.insert(key.clone()) {
                        return Err(duplicate_key(&key));
                    }
                    fields.push((key, map.next_value()?));
                }
                Ok(RawObject(fields))
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// A JSON string that borrows from the input where it has no escapes.
///
/// A type of its own, because serde borrows a `Cow` only where it is the field itself, not inside an `Option`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

fn duplicate_key<E: de::Error>(key: &str) -> E {
    E::custom(format_args!("duplicate key `{}`", excerpt(key)))
}

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

/// A JSON value in which no object, at any depth, repeats a key.
#[derive(Debug)]
pub struct UniqueValue(pub Value);

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(UniqueValue(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(duplicate_key(&key));
            }
            let UniqueValue(value) = map.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// The deepest nesting of arrays and objects in well-formed JSON text.
///
/// Iterative, because the text comes from outside and may nest as deep as it is long.
pub fn nesting_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The first number in well-formed JSON text that a reader with 64-bit floats would not keep exactly, or that
/// DynamoDB would refuse.
///
/// Kept are integers up to 2^53 - 1 (RFC 7493, I-JSON) and decimals of at most 15 significant digits, which a 64-bit
/// float reproduces, of a magnitude from 1E-125 to 9E+125 or zero.
pub fn first_inexact_number(json: &str) -> Option<&str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                let number = &json[at..at + length];
                if !is_exact(number) {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// The position after the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn is_exact(number: &str) -> bool {
    const MAX_INTEGER: u64 = (1 << 53) - 1;
    if let Ok(integer) = number.parse::<i64>() {
        return integer.unsigned_abs() <= MAX_INTEGER;
    }
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return true;
    }
    let magnitude = number.parse::<f64>().map_or(f64::INFINITY, f64::abs);
    significant.len() <= 15 && (1e-125..=9e125).contains(&magnitude)
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

    #[test]
    fn raw_values_are_the_bytes_that_were_sent() {
        let object: RawObject<'_> =
            serde_json::from_str(r#"{"a" : 1.50e1, "b\u0063": {"x":[ 1,2 ]}}"#).unwrap();
        assert_eq!(object.get("a").unwrap().get(), "1.50e1");
        assert_eq!(object.get("bc").unwrap().get(), r#"{"x":[ 1,2 ]}"#);
        assert!(object.get("c").is_none());
    }

    #[test]
    fn a_repeated_key_is_an_error_at_any_depth() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(
                serde_json::from_str::<RawObject<'_>>(text)
                    .unwrap_err()
                    .to_string()
                    .contains("duplicate key `a`")
            );
        }
        let nested = serde_json::from_str::<UniqueValue>(r#"[{"x":{"a":1,"a":1}}]"#).unwrap_err();
        assert!(nested.to_string().contains("duplicate key `a`"));
    }

    #[test]
    fn many_keys_are_read_in_linear_time() {
        let fields: Vec<_> = (0..200_000).map(|i| format!("\"k{i}\":1")).collect();
        let text = format!("{{{}}}", fields.join(","));
        assert_eq!(serde_json::from_str::<RawObject<'_>>(&text).unwrap().iter().count(), 200_000);
    }

    #[test]
    fn numbers_that_a_float_would_change_are_found() {
        for kept in [
            "0",
            "-0.0",
            "0e400",
            "9007199254740991",
            "-9007199254740991",
            "0.1",
            "1.50",
            "123456789.012345",
            "1e15",
            "1E-125",
            "9e125",
            r#""1e400""#,
            r#"{"a\"1e400":[true,1.5]}"#,
        ] {
            assert_eq!(first_inexact_number(kept), None, "{kept}");
        }
        for changed in [
            "9007199254740992",
            "-9223372036854775808",
            "12345678901234567890",
            "9007199254740993.0",
            "0.12345678901234567",
            "1e-400",
            "1e400",
            "1e126",
        ] {
            let json = format!("{{\"a\": [ {changed} ]}}");
            assert_eq!(first_inexact_number(&json), Some(changed));
        }
    }

    #[test]
    fn what_sqs_refuses_is_escaped() {
        assert_eq!(for_messages("{\"a\u{ffff}\":\"\u{fffe}x\"}"), r#"{"a\uffff":"\ufffex"}"#);
        assert!(matches!(for_messages("{}"), Cow::Borrowed(_)));
        assert_eq!(excerpt("a\u{ffff}\n"), "a\u{fffd}\u{fffd}");
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"a":[{"b":"[[[\"[["}]}"#, 3), ("[[],[[]]]", 3)] {
            assert_eq!(nesting_depth(text), depth, "{text}");
        }
        assert_eq!(nesting_depth(&("[".repeat(10_000) + &"]".repeat(10_000))), 10_000);
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
