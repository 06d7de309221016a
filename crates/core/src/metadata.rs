//! The producer's metadata: four fields that Custody reads, and any other fields, which it stores unchanged.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::{
    json::{self, UniqueValue},
    nearest::nearest,
    problem::{Problem, ProblemKind},
    receipt::Warning,
};

/// The maximum size of a record's metadata, in bytes as sent.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// The maximum length of a field that Custody reads, in characters. Two of these fields are index keys in DynamoDB,
/// where a key has at most 1024 bytes.
pub(crate) const MAX_FIELD_CHARS: usize = 256;

/// The maximum nesting of a metadata value. DynamoDB allows 32 levels, and the item and the workflow add their own.
const MAX_DEPTH: usize = 16;

const ROOT: &str = "$.messageMetaData";
const MESSAGE_TYPE: &str = "messageType";
const SOURCE_SYSTEM_ID: &str = "sourceSystemID";
const SOURCE_TRANSACTION_ID: &str = "sourceTransactionID";
const DATE_TIME: &str = "dateTime";
/// The fields that every record has.
const REQUIRED: [&str; 3] = [MESSAGE_TYPE, SOURCE_SYSTEM_ID, DATE_TIME];

/// Validated metadata.
///
/// `messageType`, `sourceSystemID` and `dateTime` are present and well-formed, `sourceTransactionID` is
/// absent or well-formed, and every other value survives JSON readers, the workflow and DynamoDB unchanged.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct MessageMetadata(Map<String, Value>);

impl MessageMetadata {
    /// Reads the `messageMetaData` value of an envelope. `offset` is where that value begins in the body.
    pub fn parse(raw: &str, offset: usize) -> Result<Self, Problem> {
        if raw.len() > MAX_METADATA_BYTES {
            return Err(invalid(
                ROOT,
                format!(
                    "the metadata has {} bytes and the limit is {MAX_METADATA_BYTES}; move large values into the payload",
                    raw.len()
                ),
            ));
        }
        if json::nesting_depth(raw) > MAX_DEPTH {
            return Err(invalid(
                ROOT,
                format!(
                    "the metadata nests deeper than {MAX_DEPTH} levels; flatten it or move it into the payload"
                ),
            ));
        }
        if let Some(number) = json::first_inexact_number(raw) {
            return Err(inexact(&json::path_of(raw, number, ROOT), number));
        }
        let UniqueValue(value) = serde_json::from_str(raw).map_err(|error| {
            Problem::new(
                ProblemKind::MalformedRequest,
                format!("{}; correct the metadata", json::error_text(&error)),
            )
            .at(ROOT)
            .at_offset(offset + json::error_offset(raw, &error))
        })?;
        match value {
            Value::Object(fields) => Self::from_fields(fields),
            _ => Err(invalid(
                ROOT,
                "messageMetaData is not an object; send an object with messageType, \
                 sourceSystemID and dateTime",
            )),
        }
    }

    /// Validates fields that were read elsewhere (CloudEvents attributes, a stored message).
    pub fn from_fields(mut fields: Map<String, Value>) -> Result<Self, Problem> {
        for name in REQUIRED {
            check_text(&fields, name)?;
        }
        match fields.get(SOURCE_TRANSACTION_ID) {
            // Existing producers represent an absent transaction in three ways. None of them is stored, because the
            // index on this field does not accept an empty key.
            None => {}
            Some(Value::Null) => drop(fields.shift_remove(SOURCE_TRANSACTION_ID)),
            Some(Value::String(text)) if text.is_empty() => drop(fields.shift_remove(SOURCE_TRANSACTION_ID)),
            Some(_) => check_text(&fields, SOURCE_TRANSACTION_ID)?,
        }
        check_date_time(fields[DATE_TIME].as_str().unwrap_or_default())?;
        let fields = Value::Object(fields);
        check_value(&fields, ROOT)?;
        let Value::Object(fields) = fields else { unreachable!("it was made an object two lines above") };
        Ok(Self(fields))
    }

    /// Returns the kind of the record, in the producer's terms.
    pub fn message_type(&self) -> &str {
        self.text(MESSAGE_TYPE).unwrap_or_default()
    }

    /// Returns the system that sent the record.
    pub fn source_system_id(&self) -> &str {
        self.text(SOURCE_SYSTEM_ID).unwrap_or_default()
    }

    /// Returns the producer's own id of the transaction that the record documents.
    pub fn source_transaction_id(&self) -> Option<&str> {
        self.text(SOURCE_TRANSACTION_ID)
    }

    /// Returns the date and time of the record, as the producer wrote it.
    pub fn date_time(&self) -> &str {
        self.text(DATE_TIME).unwrap_or_default()
    }

    /// Returns what the producer may have meant otherwise: a field that is almost called `sourceTransactionID`, if that is absent, and
    /// a `dateTime` that other readers may not understand.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.near_transaction();
        // Python's `%z` writes a zone without a colon.
        let time = self.date_time().get("2026-01-31T".len()..).unwrap_or_default();
        if time.find(['+', '-']).is_some_and(|zone| !time[zone..].contains(':')) {
            warnings.push(Warning {
                at: format!("{ROOT}.{DATE_TIME}"),
                detail: "the zone has no colon, so the dateTime is stored as sent but is not RFC 3339; send a zone like +01:00".to_owned(),
            });
        }
        warnings
    }

    fn near_transaction(&self) -> Vec<Warning> {
        if self.source_transaction_id().is_some() {
            return Vec::new();
        }
        let alike = self.0.keys().filter(|sent| meant_by(sent) == Some(SOURCE_TRANSACTION_ID));
        let warning = |sent: &String| Warning {
            at: format!("{ROOT}.{sent}"),
            detail: format!(
                "`{sent}` is stored as a field of its own, and the record has no {SOURCE_TRANSACTION_ID}; rename it, if it is meant"
            ),
        };
        alike.map(warning).collect()
    }

    /// Returns whether there is a field of this name.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Puts the fields in the order of their names, nested ones too. DynamoDB returns them in any order, and a person who reads a record twice
    /// expects the same text.
    pub fn sort_fields(&mut self) {
        self.0.values_mut().for_each(Value::sort_all_objects);
        self.0.sort_keys();
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }
}

impl<'de> Deserialize<'de> for MessageMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_fields(Map::deserialize(deserializer)?)
            .map_err(|problem| de::Error::custom(problem.detail))
    }
}

/// Returns the field that Custody reads which a field of another name may stand for.
fn meant_by(name: &str) -> Option<&'static str> {
    const READ: [&str; 4] = [MESSAGE_TYPE, SOURCE_SYSTEM_ID, SOURCE_TRANSACTION_ID, DATE_TIME];
    nearest(name, &READ).filter(|known| *known != name)
}

fn invalid(path: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::InvalidMetadata, detail).at(path)
}

fn check_text(fields: &Map<String, Value>, name: &str) -> Result<(), Problem> {
    let path = format!("{ROOT}.{name}");
    let detail = match fields.get(name) {
        None | Some(Value::Null) => match fields.keys().find(|sent| meant_by(sent) == Some(name)) {
            Some(sent) => format!("{name} is missing; rename `{}`, if it is meant", json::excerpt(sent)),
            None => missing(fields, name),
        },
        Some(Value::String(text)) if text.trim().is_empty() => format!("{name} is empty; send a value"),
        Some(Value::String(text)) if text.chars().count() > MAX_FIELD_CHARS => {
            format!("{name} has more than {MAX_FIELD_CHARS} characters; shorten it")
        }
        Some(Value::String(text)) if text.chars().any(char::is_control) => {
            format!("{name} contains a control character; remove it")
        }
        Some(Value::String(_)) => return Ok(()),
        Some(_) if name == DATE_TIME => {
            format!("{name} is not a string; send RFC 3339 in quotation marks: \"2026-01-31T09:30:00Z\"")
        }
        Some(_) => format!("{name} is not a string; send it in quotation marks"),
    };
    Err(invalid(&path, detail))
}

/// Says that a field is missing, with the other required fields that are missing too.
fn missing(fields: &Map<String, Value>, name: &str) -> String {
    let is_missing = |name: &&str| fields.get(*name).is_none_or(Value::is_null);
    let names: Vec<&str> = REQUIRED.into_iter().filter(is_missing).collect();
    match names.split_last() {
        Some((last, others)) if names.contains(&name) && !others.is_empty() => {
            format!("{} and {last} are missing; send each as a string", others.join(", "))
        }
        _ => format!("{name} is missing; send it as a string"),
    }
}

/// Returns the problem of a number that would not arrive as it was sent.
pub(crate) fn inexact(path: &str, number: &str) -> Problem {
    let number = json::excerpt(number);
    invalid(
        path,
        format!("the number {number} cannot be represented exactly by every reader; send it as a string"),
    )
}

/// Rejects text that SNS, SQS or DynamoDB would reject later, after the record was acknowledged.
fn check_value(value: &Value, path: &str) -> Result<(), Problem> {
    let check_characters = |text: &str| {
        if text.contains(json::is_noncharacter) {
            let path = json::excerpt(path);
            return Err(invalid(
                &path,
                format!("{path} contains U+FFFE or U+FFFF, which no message may carry; remove it"),
            ));
        }
        Ok(())
    };
    match value {
        Value::String(text) => check_characters(text),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(i, item)| check_value(item, &format!("{path}[{i}]")))
        }
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
            check_characters(name)?;
            if name.is_empty() {
                let path = json::excerpt(path);
                return Err(invalid(
                    &path,
                    format!("a field of {path} has an empty name; send a name, or remove the field"),
                ));
            }
            check_value(field, &format!("{path}.{name}"))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Checks that `dateTime` is RFC 3339, or `YYYY-MM-DD HH:MM:SS[.ffffff]`, which means UTC.
fn check_date_time(text: &str) -> Result<(), Problem> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 19
        && bytes[..19].iter().zip(b"0000-00-00 00:00:00").all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b' ' => matches!(byte, b' ' | b'T' | b't'),
            _ => byte == shape,
        });
    let known = shaped
        && if bytes[10] == b' ' && !text[19..].contains(['Z', 'z', '+', '-']) {
            text.parse::<jiff::civil::DateTime>().is_ok()
        } else {
            !text.contains('[') && text.parse::<jiff::Timestamp>().is_ok()
        };
    if known {
        return Ok(());
    }
    let path = format!("{ROOT}.{DATE_TIME}");
    let is_zoned = || text[19..].contains(['Z', 'z', '+', '-', '[']);
    if shaped && !is_zoned() && text.parse::<jiff::civil::DateTime>().is_ok() {
        return Err(invalid(
            &path,
            format!(
                "dateTime `{}` has no zone; append Z if it is in UTC (2026-01-31T09:30:00Z), or else the offset (2026-01-31T09:30:00+01:00)",
                json::excerpt(text)
            ),
        ));
    }
    let is_without_seconds = |text: &str| {
        text.get(..16)
            .zip(text.get(16..))
            .is_some_and(|(minute, zone)| format!("{minute}:00{zone}").parse::<jiff::Timestamp>().is_ok())
    };
    if is_without_seconds(text) {
        let detail = format!(
            "dateTime `{}` has no seconds; send them, too (2026-01-31T09:30:00Z)",
            json::excerpt(text)
        );
        return Err(invalid(&path, detail));
    }
    Err(invalid(
        &path,
        format!(
            "dateTime `{}` is not a date and time; send RFC 3339 (2026-01-31T09:30:00Z) or \
         YYYY-MM-DD HH:MM:SS.ffffff in UTC",
            json::excerpt(text)
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(field: &str, value: &str) -> String {
        let base = [
            (MESSAGE_TYPE, r#""imageB64""#),
            (SOURCE_SYSTEM_ID, r#""scanner""#),
            (DATE_TIME, r#""2026-01-31T09:30:00Z""#),
        ];
        let mut fields: Vec<_> =
            base.iter().filter(|(name, _)| *name != field).map(|(n, v)| format!("\"{n}\":{v}")).collect();
        if !value.is_empty() {
            fields.push(format!("\"{field}\":{value}"));
        }
        format!("{{{}}}", fields.join(","))
    }

    #[test]
    fn unknown_fields_are_kept_in_the_order_sent() {
        let text = r#"{"z":[1,{"q":null}],"messageType":"t","sourceSystemID":"s","dateTime":"2021-07-03 16:21:12.357246","a":0.5}"#;
        let metadata = MessageMetadata::parse(text, 0).unwrap();
        assert_eq!(serde_json::to_string(&metadata).unwrap(), text);
        assert_eq!(metadata.source_transaction_id(), None);
        assert_eq!(metadata.date_time(), "2021-07-03 16:21:12.357246");
    }

    #[test]
    fn an_unacceptable_field_is_named_by_its_path() {
        for (field, value, detail) in [
            ("messageType", "", "is missing"),
            ("messageType", "null", "is missing"),
            ("messageType", "\"\"", "is empty"),
            ("messageType", "\" \"", "is empty"),
            ("messageType", "7", "not a string"),
            ("sourceSystemID", "[]", "not a string"),
            ("sourceSystemID", "\"a\\u0000b\"", "control character"),
            ("sourceTransactionID", "{}", "not a string"),
            ("dateTime", "\"yesterday\"", "RFC 3339"),
            ("dateTime", "\"2026-13-01T00:00:00Z\"", "RFC 3339"),
            ("dateTime", "\"2026-01-31\"", "RFC 3339"),
            (
                "dateTime",
                "\"2026-01-31T09:30:00\"",
                "has no zone; append Z if it is in UTC (2026-01-31T09:30:00Z), or else the offset (2026",
            ),
            ("dateTime", "\"2026-01-31T09:30:00.25\"", "has no zone; append Z"),
            ("dateTime", "\"2026-01-31T09:30:00[UTC]\"", "RFC 3339"),
            ("dateTime", "\"2026-02-30 09:30:00\"", "RFC 3339"),
            ("dateTime", "\"2026-01-31T09:30:00Z[UTC]\"", "RFC 3339"),
            ("extra", "{\"\":1}", "empty name"),
            ("extra", "[\"a\\uffff\"]", "U+FFFF"),
            ("extra", "{\"a\\ufffe\":1}", "U+FFFE"),
        ] {
            let problem = MessageMetadata::parse(&with(field, value), 0).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::InvalidMetadata, "{field}={value}");
            assert!(problem.detail.contains(detail), "{field}={value}: {}", problem.detail);
            assert!(problem.path.unwrap().starts_with(&format!("{ROOT}.{field}")));
        }
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        for number in
            ["9007199254740993", "-9223372036854775808", "1e300", "[{\"n\":0.12345678901234567890}]"]
        {
            let problem = MessageMetadata::parse(&with("extra", number), 0).unwrap_err();
            assert!(problem.detail.contains("as a string"), "{number}: {}", problem.detail);
        }
    }

    #[test]
    fn dates_that_existing_producers_send_are_accepted() {
        for date in [
            "2021-07-03 16:21:12.357246",
            "2021-07-03 16:21:12",
            "2026-01-31T09:30:00.5+01:00",
            "2026-01-31T09:30:00z",
            "1969-07-20T20:17:40Z",
        ] {
            MessageMetadata::parse(&with("dateTime", &format!("\"{date}\"")), 0).expect(date);
        }
    }

    #[test]
    fn an_absent_transaction_is_kept_in_no_form() {
        for value in ["", "null", "\"\""] {
            let metadata = MessageMetadata::parse(&with("sourceTransactionID", value), 0).unwrap();
            assert!(!serde_json::to_string(&metadata).unwrap().contains("sourceTransactionID"));
        }
    }

    #[test]
    fn size_and_depth_are_limited() {
        let long = with("extra", &format!("\"{}\"", "x".repeat(MAX_METADATA_BYTES)));
        assert!(MessageMetadata::parse(&long, 0).unwrap_err().detail.contains("16384"));
        let deep = with("extra", &("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH)));
        assert!(MessageMetadata::parse(&deep, 0).unwrap_err().detail.contains("deeper"));
    }
}
