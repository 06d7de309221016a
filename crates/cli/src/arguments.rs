//! Parses the times and durations of command-line options.

use std::time::Duration;

use custody_core::clock::{Clock as _, SystemClock, Timestamp};
use jiff::{Span, SpanRelativeTo};

/// Parses an RFC 3339 time, or a duration before now such as `2h`.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    time_from(text, SystemClock.now()).ok_or_else(|| {
        "expected an RFC 3339 time (2026-01-31T09:30:00Z) or a duration before now, such as 2h, 30min or 1d".to_owned()
    })
}

fn time_from(text: &str, now: Timestamp) -> Option<Timestamp> {
    Timestamp::parse(text).or_else(|| {
        let ago_ms = i64::try_from(duration_from(text)?.as_millis()).ok()?;
        Timestamp::from_unix_ms(now.unix_ms().saturating_sub(ago_ms).max(0))
    })
}

/// Parses a duration such as `90s`, `30min`, `2h` or `1d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    duration_from(text).ok_or_else(|| "expected a duration, such as 90s, 30min, 2h or 1d".to_owned())
}

/// Reads a duration in jiff's friendly format. A day has 24 hours.
fn duration_from(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_or_relative_to_now() {
        let now = Timestamp::parse("2026-01-31T09:30:00Z").unwrap();
        for (text, time) in [
            ("2026-01-30T00:00:00Z", "2026-01-30T00:00:00.000Z"),
            ("90s", "2026-01-31T09:28:30.000Z"),
            ("30min", "2026-01-31T09:00:00.000Z"),
            ("2h", "2026-01-31T07:30:00.000Z"),
            ("1 d", "2026-01-30T09:30:00.000Z"),
            ("100000d", "1970-01-01T00:00:00.000Z"),
            ("1h 30min", "2026-01-31T08:00:00.000Z"),
        ] {
            assert_eq!(time_from(text, now).unwrap().to_string(), time, "{text}");
        }
        for text in ["", "2", "h", "2 ages", "-1h", "yesterday", "99999999999999999999s"] {
            assert!(time_from(text, now).is_none() && parse_duration(text).is_err(), "{text}");
        }
    }
}
