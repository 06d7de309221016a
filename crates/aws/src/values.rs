//! Values for AWS: attributes in DynamoDB, and the times of signed links.

use std::{fmt::Display, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::presigning::{PresigningConfig, PresigningConfigError};
use custody_core::clock::Timestamp;

use crate::conditional_write::Attributes;

pub(crate) fn text(value: impl Display) -> AttributeValue {
    AttributeValue::S(value.to_string())
}

pub(crate) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Encodes a time as a number of milliseconds since the Unix epoch.
pub(crate) fn time(value: Timestamp) -> AttributeValue {
    number(value.unix_ms())
}

/// Encodes the time after which DynamoDB may remove an item: a number of seconds. Source: Amazon DynamoDB developer guide,
/// "Using time to live (TTL)".
pub(crate) fn time_to_live(removable_at: Timestamp) -> AttributeValue {
    number(removable_at.unix_ms() / 1000 + 1)
}

/// Returns the signing of a link that works from `now` on, for `lifetime`.
pub(crate) fn link_signing(
    now: Timestamp,
    lifetime: Duration,
) -> Result<PresigningConfig, PresigningConfigError> {
    let unix_ms = u64::try_from(now.unix_ms()).unwrap_or_default();
    let start = std::time::UNIX_EPOCH + Duration::from_millis(unix_ms);
    PresigningConfig::builder().start_time(start).expires_in(lifetime).build()
}

pub(crate) fn text_of<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(crate) fn number_of<T: std::str::FromStr>(item: &Attributes, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(crate) fn time_of(item: &Attributes, name: &str) -> Option<Timestamp> {
    number_of(item, name).and_then(Timestamp::from_unix_ms)
}
