//! The objects that a producer may send by reference: one object, or all objects with a prefix.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::upload::SourceUri;

/// One object (`s3://scans/a.png`), or all objects of a bucket whose keys begin with a prefix (`s3://scans/loans/*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReferencePattern(String);

impl ReferencePattern {
    /// Whether the pattern includes this object.
    pub fn matches(&self, uri: &SourceUri) -> bool {
        let address = format!("s3://{}/{}", uri.bucket, uri.key);
        match self.0.strip_suffix('*') {
            Some(prefix) => address.starts_with(prefix),
            None => address == self.0,
        }
    }
}

impl FromStr for ReferencePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ReferencePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.strip_suffix('*').unwrap_or(&text);
        // A prefix may end with the slash after the bucket, so that a part is added for the check.
        let probe = if address.len() < text.len() { format!("{address}x") } else { address.to_owned() };
        if address.contains(['*', '?']) || probe.parse::<SourceUri>().is_err() {
            return Err(format!(
                "`{}` is not s3://<bucket>/<key>, or s3://<bucket>/<prefix> and one `*` at its end",
                crate::json::excerpt(&text)
            ));
        }
        Ok(Self(text))
    }
}

impl From<ReferencePattern> for String {
    fn from(pattern: ReferencePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for ReferencePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_stored_and_shown_as_its_text() {
        let pattern: ReferencePattern = "s3://scans/*".parse().unwrap();
        assert_eq!(pattern.to_string(), "s3://scans/*");
        assert_eq!(serde_json::to_value(&pattern).unwrap(), "s3://scans/*");
        assert_eq!(serde_json::from_str::<ReferencePattern>(r#""s3://scans/*""#).unwrap(), pattern);
        assert!(serde_json::from_str::<ReferencePattern>(r#""*""#).is_err());
    }

    #[test]
    fn a_pattern_is_an_object_or_a_prefix_of_a_bucket() {
        let matches = |pattern: &str, uri: &str| {
            pattern.parse::<ReferencePattern>().unwrap().matches(&uri.parse().unwrap())
        };
        assert!(
            matches("s3://scans/*", "s3://scans/a") && matches("s3://scans/loans/*", "s3://scans/loans/a")
        );
        assert!(matches("s3://scans/a.png", "s3://scans/a.png"));
        for (pattern, uri) in [
            ("s3://scans/*", "s3://scans2/a"),
            ("s3://scans/loans/*", "s3://scans/loans2/a"),
            ("s3://scans/a.png", "s3://scans/a.png2"),
        ] {
            assert!(!matches(pattern, uri), "{pattern} {uri}");
        }
        for text in [
            "",
            "*",
            "s3://*",
            "s3://scans*",
            "scans/*",
            "s3://scans/*/a",
            "s3://scans/**",
            "s3://scans/../*",
            "s3://scans/",
        ] {
            assert!(text.parse::<ReferencePattern>().is_err(), "{text}");
        }
    }
}
