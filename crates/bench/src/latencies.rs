//! How long the AWS stub takes for its answers, by operation.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use anyhow::{Context as _, bail};

/// The time that the stub lets pass before it answers a call. Operations that are not named are answered at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(BTreeMap<String, Duration>);

/// Times like those of AWS in one Region, for `--latency aws`: medians of small requests, which vary by a factor of two and
/// more. DynamoDB is "single-digit milliseconds" by its developer guide, and a transaction takes two rounds of that; the
/// others have no published medians and are what their users commonly report: unverified here.
const LIKE_AWS: [(&str, u64); 9] = [
    ("GetItem", 4),
    ("PutItem", 4),
    ("UpdateItem", 4),
    ("TransactWriteItems", 8),
    ("PutObject", 25),
    ("HeadObject", 15),
    ("SendMessage", 10),
    ("Publish", 15),
    ("StartExecution", 30),
];

impl Latencies {
    /// Times like those of AWS.
    pub fn like_aws() -> Self {
        let all = LIKE_AWS.into_iter();
        Self(all.map(|(operation, ms)| (operation.to_owned(), Duration::from_millis(ms))).collect())
    }

    /// The latency of an operation, by the name that its service's API reference has for it.
    pub fn of(&self, operation: &str) -> Duration {
        self.0.get(operation).copied().unwrap_or_default()
    }

    /// The same latencies, with another one for this operation.
    #[must_use]
    pub fn with(mut self, operation: &str, latency: Duration) -> Self {
        self.0.insert(operation.to_owned(), latency);
        self
    }

    /// Whether every operation is answered at once.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads `StartExecution=300ms,PutItem=4ms`, or `aws`.
impl FromStr for Latencies {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "aws" {
            return Ok(Self::like_aws());
        }
        let mut latencies = Self::default();
        for part in text.split(',') {
            let (operation, latency) = part.split_once('=').context("expected OPERATION=TIME")?;
            latencies.0.insert(operation.to_owned(), duration(latency)?);
        }
        Ok(latencies)
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (operation, latency)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{operation}={}ms", latency.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

/// Reads `300ms`, `1.5s` or `5min`.
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
        assert_eq!(latencies.of("StartExecution"), Duration::from_millis(300));
        assert_eq!(latencies.of("PutItem"), Duration::from_millis(4));
        assert_eq!(latencies.of("GetItem"), Duration::ZERO);
        assert_eq!(latencies.to_string(), "PutItem=4ms,StartExecution=300ms");
        assert_eq!("aws".parse::<Latencies>().unwrap().of("StartExecution"), Duration::from_millis(30));
        assert_eq!(latencies.with("PutItem", Duration::ZERO).of("PutItem"), Duration::ZERO);
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
