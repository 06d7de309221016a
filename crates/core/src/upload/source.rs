//! Objects that producers send by reference, and the rule that says which of them Custody may copy.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// The address of an object that a producer sends by reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceUri {
    pub bucket: String,
    pub key: String,
    /// The version of the object. `None` for the version that is the latest when the upload begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
}

impl FromStr for SourceUri {
    type Err = String;

    /// Reads `s3://<bucket>/<key>`. The key is not percent-encoded.
    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
        // Source: Amazon S3 user guide, "General purpose bucket naming rules" and "Naming Amazon S3 objects".
        let is_bucket = |bucket: &str| {
            (3..=63).contains(&bucket.len())
                && bucket.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        let is_key = |key: &str| {
            (1..=1024).contains(&key.len()) && !key.chars().any(char::is_control)
                // A client or a proxy may resolve such parts of a path, and then read another object.
                && key.split('/').all(|part| part != "." && part != "..")
        };
        match address {
            Some((bucket, key)) if is_bucket(bucket) && is_key(key) => {
                Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None })
            }
            _ => Err(format!("`{}` is not s3://<bucket>/<key>", crate::json::excerpt(text))),
        }
    }
}

impl fmt::Display for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)?;
        self.version_id.as_ref().map_or(Ok(()), |version| write!(f, " (version {version})"))
    }
}

/// A payload that is in a bucket of its producer, as the producer describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayloadReference {
    /// The address of the object.
    #[serde(flatten)]
    pub uri: SourceUri,
    /// The digest that the object must have. `None` if the producer does not state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// The media type of the payload. `None` for that of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

impl PayloadReference {
    /// Creates the reference to an object of which only the address is known.
    pub fn to(uri: SourceUri) -> Self {
        Self { uri, sha256: None, content_type: None }
    }
}

/// An object that a producer sends by reference, as it was when the upload began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceObject {
    #[serde(flatten)]
    pub uri: SourceUri,
    /// What the producer has requested. `uri` has the version that was found.
    pub requested: PayloadReference,
    /// The entity tag, which changes with the content. Only an object with this tag is copied.
    pub etag: String,
    #[serde(rename = "size")]
    pub size_bytes: u64,
    pub content_type: Option<String>,
    /// The digest that S3 has of the whole object, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

/// The objects that producers may send by reference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedSources(Vec<AllowedSource>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct AllowedSource {
    bucket: String,
    prefix: String,
}

impl AllowedSources {
    /// Whether a producer may send this object by reference.
    pub fn includes(&self, uri: &SourceUri) -> bool {
        self.0.iter().any(|source| uri.bucket == source.bucket && uri.key.starts_with(&source.prefix))
    }
}

impl FromStr for AllowedSources {
    type Err = String;

    /// Reads a list of ARNs of objects, separated by commas: `arn:aws:s3:::scans/*,arn:aws:s3:::loans/archive/*`. An empty
    /// text allows no object.
    fn from_str(text: &str) -> Result<Self, String> {
        let sources = text.split(',').map(str::trim).filter(|arn| !arn.is_empty());
        sources.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for AllowedSource {
    type Err = String;

    fn from_str(arn: &str) -> Result<Self, String> {
        let path = arn.strip_prefix("arn:").and_then(|rest| rest.split_once(":s3:::")).map(|(_, path)| path);
        match path.and_then(|path| path.strip_suffix('*')?.split_once('/')) {
            Some((bucket, prefix))
                if !bucket.is_empty() && !bucket.contains(['*', '?']) && !prefix.contains(['*', '?']) =>
            {
                Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
            }
            _ => Err(format!("`{arn}` is not arn:aws:s3:::<bucket>/*, or arn:aws:s3:::<bucket>/<prefix>*")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_a_key() {
        let uri: SourceUri = "s3://my-scans/2026/a b%20ü.png".parse().unwrap();
        assert_eq!((uri.bucket.as_str(), uri.key.as_str()), ("my-scans", "2026/a b%20ü.png"));
        assert_eq!(uri.to_string(), "s3://my-scans/2026/a b%20ü.png");
        for text in [
            "",
            "s3://",
            "s3://scans",
            "s3://scans/",
            "s3:///key",
            "http://scans/key",
            "s3://Scans/key",
            "s3://ab/key",
            "s3://scans/../x",
            "s3://scans/a/./b",
            "s3://scans/a\nb",
            &format!("s3://scans/{}", "k".repeat(1025)),
        ] {
            assert!(text.parse::<SourceUri>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_objects_under_an_allowed_prefix_are_included() {
        let allowed: AllowedSources = "arn:aws:s3:::scans/*, arn:aws-cn:s3:::loans/2026/*".parse().unwrap();
        let is_allowed = |uri: &str| allowed.includes(&uri.parse().unwrap());
        assert!(is_allowed("s3://scans/a") && is_allowed("s3://loans/2026/b"));
        for uri in ["s3://scans2/a", "s3://loans/2025/b", "s3://loans/2026", "s3://other/scans/a"] {
            assert!(!is_allowed(uri), "{uri}");
        }
        assert!(!AllowedSources::default().includes(&"s3://scans/a".parse().unwrap()));
        assert_eq!("".parse(), Ok(AllowedSources::default()));
        for text in
            ["scans", "arn:aws:s3:::scans", "arn:aws:s3:::scans/a", "arn:aws:s3:::*/x*", "arn:aws:s3:::/*"]
        {
            assert!(text.parse::<AllowedSources>().is_err(), "{text}");
        }
    }
}
