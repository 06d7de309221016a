//! Time in the pipeline: UTC instants with millisecond precision, from a clock that tests can control.

mod system;

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use self::system::SystemClock;
use crate::record_id::RecordId;

/// The source of the current time and of the ids of new records.
pub trait Clock: Send + Sync {
    /// Returns the current instant.
    fn now(&self) -> Timestamp;

    /// Creates the id of a record that is received now.
    fn mint(&self) -> RecordId {
        RecordId::mint(self.now())
    }
}

/// A UTC instant in whole milliseconds.
///
/// Its text form is RFC 3339 with exactly three fractional digits (`2026-11-20T22:21:00.000Z`), so that
/// text order is time order: the table's indexes sort by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The end of the range that `jiff` represents: 9999-12-30T22:00:00Z, so that every offset stays within year 9999.
    const END_MS: i64 = 253_402_207_200_000;

    /// Creates an instant from milliseconds since the Unix epoch; `None` outside 1970 to 9999-12-30T22:00Z.
    pub const fn from_unix_ms(unix_ms: i64) -> Option<Self> {
        if unix_ms >= 0 && unix_ms < Self::END_MS { Some(Self(unix_ms)) } else { None }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to this instant; zero if this instant is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0 - earlier.0).unwrap_or_default())
    }

    /// Returns the instant that is `duration` after this one, or the last instant that can be represented.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add_unsigned(ms).min(Self::END_MS - 1))
    }

    /// Returns the time between this instant and `other`, whichever is earlier.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }

    /// Returns the instant as text in a `strftime` format of `jiff`, in UTC.
    pub fn format(self, format: &str) -> String {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX).strftime(format).to_string()
    }

    /// Reads an RFC 3339 date and time.
    pub fn parse(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        Self::from_unix_ms(instant.as_millisecond())
    }

    /// Reads an RFC 3339 date and time. One outside of the range becomes the first or the last instant of the range.
    pub fn parse_clamped(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        Some(Self(instant.as_millisecond().clamp(0, Self::END_MS - 1)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is not an RFC 3339 instant")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_becomes_the_first_or_the_last_instant() {
        let (first, last) = (Timestamp(0), Timestamp(Timestamp::END_MS - 1));
        assert_eq!(Timestamp::parse_clamped("1969-12-31T23:59:59.999Z"), Some(first));
        assert_eq!(Timestamp::parse_clamped("9999-12-30T22:00:00Z"), Some(last));
        assert_eq!(
            Timestamp::parse_clamped("2026-11-20T22:21:00.007Z"),
            Timestamp::from_unix_ms(1_795_213_260_007)
        );
        assert_eq!(Timestamp::parse_clamped("yesterday"), None);
        assert_eq!(first.after(Duration::MAX), last);
    }

    #[test]
    fn the_text_form_has_three_fractional_digits_and_reads_back() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_213_260_007, "2026-11-20T22:21:00.007Z"),
            (Timestamp::END_MS - 1, "9999-12-30T21:59:59.999Z"),
        ] {
            let instant = Timestamp::from_unix_ms(unix_ms).unwrap();
            assert_eq!(instant.to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(instant));
        }
        assert_eq!(Timestamp::from_unix_ms(-1), None);
        assert_eq!(Timestamp::from_unix_ms(Timestamp::END_MS), None);
    }
}
