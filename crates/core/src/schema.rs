//! The version of stored and sent formats. During a deployment, functions of two versions run side by side.

use serde::{Deserialize, de::DeserializeOwned};

use crate::error::{ErrorName, StageError};

/// The version of every wire format in this crate.
pub const SCHEMA_VERSION: u32 = 1;

/// The versions in a JSON text: its own, and that of the message in it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Versions {
    schema_version: u32,
    message: Option<Box<Versions>>,
}

/// Reads JSON text that a stage, the open-record table or the archive holds. `operation` describes the read.
///
/// Text of a newer version is a `NewerSchemaVersion`, even if it could be read, because what this version does not know of it
/// would be lost when it is stored again. The error is transient: the newer function reads the text later. Text that is not of
/// the format is an `InvalidInput`.
pub fn read<T: DeserializeOwned>(json: &[u8], operation: &str) -> Result<T, StageError> {
    expect_known(json, operation)?;
    serde_json::from_slice(json)
        .map_err(|error| StageError::new(ErrorName::InvalidInput, operation).caused_by(error))
}

/// Returns the error of [`read`] for JSON text of a newer version, and `Ok` for any other text.
pub fn expect_known(json: &[u8], operation: &str) -> Result<(), StageError> {
    let versions: Versions = serde_json::from_slice(json).unwrap_or_default();
    let of_message = versions.message.map_or(0, |message| message.schema_version);
    let newest = versions.schema_version.max(of_message);
    if newest <= SCHEMA_VERSION {
        return Ok(());
    }
    Err(StageError::new(
        ErrorName::NewerSchemaVersion,
        format!(
            "{operation}: it has schemaVersion {newest}, and this release reads {SCHEMA_VERSION}; it is left to a newer release"
        ),
    ))
}

#[cfg(test)]
mod compatibility;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{error::ErrorKind, failed_record::FailedRecord, message::InternalMessage, testing::samples};

    #[test]
    fn a_newer_message_is_left_to_a_newer_release_even_if_it_can_be_read() {
        let message = samples::message(b"payload");
        let read_message = |json: &Value| read::<InternalMessage>(json.to_string().as_bytes(), "read it");
        let mut json = serde_json::to_value(&message).unwrap();
        assert_eq!(read_message(&json).unwrap(), message);
        json["schemaVersion"] = 2.into();
        let error = read_message(&json).unwrap_err();
        assert_eq!((error.name, error.kind()), (ErrorName::NewerSchemaVersion, ErrorKind::Transient));
        assert!(error.to_string().contains("schemaVersion 2"), "{error}");

        let mut nested = serde_json::to_value(FailedRecord::found(
            message.clone(),
            crate::testing::contract::failure_of(&message).failures.remove(0),
        ))
        .unwrap();
        nested["message"] = json;
        let error = read::<FailedRecord>(nested.to_string().as_bytes(), "read it").unwrap_err();
        assert_eq!(error.name, ErrorName::NewerSchemaVersion);
    }

    #[test]
    fn a_text_without_a_version_is_known_and_what_has_another_form_is_invalid() {
        for text in ["{}", "7", "not JSON", r#"{"schemaVersion": "2"}"#, r#"{"message": "text"}"#] {
            assert!(expect_known(text.as_bytes(), "read it").is_ok(), "{text}");
            let error = read::<InternalMessage>(text.as_bytes(), "read it").unwrap_err();
            assert_eq!(error.name, ErrorName::InvalidInput, "{text}");
        }
        assert_eq!(json!(read::<u32>(b"7", "read it").unwrap()), 7);
    }
}
