//! The latencies of the AWS stub, by operation.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, bail};

/// The time that the stub waits before it answers a call, by operation. Operations that are not listed are answered at
/// once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies(BTreeMap<String, Latency>);

/// The time that the stub adds to the time that the machine needs for a call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Latency {
    first: Duration,
    /// The rate at which a body is transferred; `None` if the size of a body makes no difference.
    bytes_per_second: Option<f64>,
}

/// Latencies like those of AWS in one Region, for `--latency aws`: milliseconds, and for bodies of megabytes MB/s. They
/// are medians of small requests and vary by a factor of two and more.
///
/// - DynamoDB: "single-digit milliseconds" (Amazon DynamoDB developer guide, "What is Amazon DynamoDB?"); a transaction takes two
///   rounds of that (developer guide, "Amazon DynamoDB Transactions: How it works").
/// - S3: "one concurrent request for each 85-90 MB/s of desired network throughput" (Amazon S3 user guide, "Performance design
///   patterns for Amazon S3"). Its "100-200 milliseconds" for small objects ("Best practices design patterns") are an upper
///   bound; what users report of one Region is a quarter of it: unverified here.
/// - The others have no published medians and are what their users commonly report: unverified here.
const LIKE_AWS: [(&str, u64, Option<f64>); 10] = [
    ("GetItem", 4, None),
    ("PutItem", 4, None),
    ("UpdateItem", 4, None),
    ("TransactWriteItems", 8, None),
    ("GetObject", 20, Some(90.0)),
    ("PutObject", 25, Some(90.0)),
    ("HeadObject", 15, None),
    ("SendMessage", 10, None),
    ("Publish", 15, None),
    ("StartExecution", 30, None),
];

impl Latencies {
    /// Returns latencies like those of AWS.
    pub fn like_aws() -> Self {
        let all = LIKE_AWS.into_iter().map(|(operation, ms, megabytes)| {
            let bytes_per_second = megabytes.map(|megabytes| megabytes * 1e6);
            (operation.to_owned(), Latency { first: Duration::from_millis(ms), bytes_per_second })
        });
        Self(all.collect())
    }

    /// Returns the latency of an operation with a body of this size. The operation has the name that the API reference
    /// of its service uses.
    pub fn of(&self, operation: &str, body_bytes: usize) -> Duration {
        let Latency { first, bytes_per_second } = self.0.get(operation).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "the size of a body")]
        let passing = bytes_per_second.map_or(0.0, |rate| body_bytes as f64 / rate);
        first + Duration::from_secs_f64(passing)
    }

    /// Returns the same latencies, with another latency for this operation.
    #[must_use]
    pub fn with(mut self, operation: &str, latency: Duration) -> Self {
        self.0.insert(operation.to_owned(), Latency { first: latency, bytes_per_second: None });
        self
    }

    /// Returns whether every operation is answered at once.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Parses `StartExecution=300ms,PutItem=4ms`, or `aws`.
impl FromStr for Latencies {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "aws" {
            return Ok(Self::like_aws());
        }
        let mut latencies = Self::default();
        for part in text.split(',') {
            let (operation, latency) = part.split_once('=').context("expected OPERATION=TIME")?;
            latencies = latencies.with(operation, duration(latency)?);
        }
        Ok(latencies)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::like_aws() {
            return f.write_str("aws");
        }
        for (index, (operation, latency)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{operation}={}ms", latency.first.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

/// Parses `300ms`, `1.5s` or `5min`.
pub fn duration(text: &str) -> anyhow::Result<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "min" => 60.0,
        _ => bail!("expected a time such as 300ms, 1.5s or 5min, not {text}"),
    };
    let number: f64 = number.parse().with_context(|| format!("read the time {text}"))?;
    Ok(Duration::try_from_secs_f64(number * seconds)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_read_by_operation() {
        let latencies: Latencies = "StartExecution=300ms,PutItem=4ms".parse().unwrap();
        assert_eq!(latencies.of("StartExecution", 0), Duration::from_millis(300));
        assert_eq!(latencies.of("PutItem", 0), Duration::from_millis(4));
        assert_eq!(latencies.of("GetItem", 0), Duration::ZERO);
        assert_eq!(latencies.to_string(), "PutItem=4ms,StartExecution=300ms");
        assert_eq!("aws".parse::<Latencies>().unwrap().of("StartExecution", 0), Duration::from_millis(30));
        let aws = Latencies::like_aws();
        assert_eq!(aws.of("PutObject", 4_500_000), Duration::from_millis(75), "25 ms, and 4.5 MB at 90 MB/s");
        assert_eq!(aws.to_string(), "aws");
        assert_eq!(latencies.with("PutItem", Duration::ZERO).of("PutItem", 0), Duration::ZERO);
    }

    #[test]
    fn a_time_without_a_unit_is_refused() {
        for text in ["", "StartExecution", "StartExecution=", "StartExecution=300", "PutItem=-1ms"] {
            assert!(text.parse::<Latencies>().is_err(), "{text}");
        }
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("5min").unwrap(), Duration::from_mins(5));
    }
}
