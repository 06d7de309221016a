//! Configuration: every key a function reads, in one place.
//!
//! Each function has one type here. Its `read` names exactly the keys that `template.yaml` must set for the
//! function; a test compares the two.

mod cache;

use std::{fmt, path::PathBuf, time::Duration};

use custody_core::stages::failure::RedrivePolicy;

pub use self::cache::CacheConfig;

/// Reads keys and collects everything that is wrong with them.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
    keys: Vec<&'static str>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not usable: {}", .0.join("; "))]
pub struct ConfigError(Vec<String>);

impl Reader<'_> {
    /// The text of `key`.
    pub fn text(&mut self, key: &'static str) -> String {
        self.parsed(key, "text", |text| Some(text.to_owned())).unwrap_or_default()
    }

    /// The value of `key`, which must be what `expected` says.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.keys.push(key);
        let problem = match (self.lookup)(key).filter(|text| !text.is_empty()) {
            None => format!("{key} is not set (expected {expected})"),
            Some(text) => match parse(&text) {
                Some(value) => return Some(value),
                // Values may be secrets: name the key, show the rule.
                None => format!("{key} is not {expected}"),
            },
        };
        self.problems.push(problem);
        None
    }
}

/// Reads a configuration through `lookup`, together with the keys that were read.
pub fn from_lookup<T>(
    lookup: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> (Result<T, ConfigError>, Vec<&'static str>) {
    let mut reader = Reader { lookup, problems: Vec::new(), keys: Vec::new() };
    let value = read(&mut reader);
    let result = if reader.problems.is_empty() { Ok(value) } else { Err(ConfigError(reader.problems)) };
    (result, reader.keys)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
pub(crate) fn from_environment<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, ConfigError> {
    from_lookup(&|key| std::env::var(key).ok(), read).0
}

/// A text that must not be shown.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where Redis is and how to be let in.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The primary's host name.
    pub host: String,
    /// Its TLS port.
    pub port: u16,
    /// The Secrets Manager secret that holds the password.
    pub secret_arn: String,
    /// The PEM file of the authorities that may sign its certificate.
    pub ca_bundle: PathBuf,
}

impl RedisConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            host: reader.text("REDIS_HOST"),
            port: reader.parsed("REDIS_PORT", "a port number", |text| text.parse().ok()).unwrap_or_default(),
            secret_arn: reader.text("REDIS_SECRET_ARN"),
            ca_bundle: PathBuf::from(reader.text("REDIS_CA_BUNDLE")),
        }
    }
}

/// What ingest reads.
#[derive(Debug)]
pub struct IngestConfig {
    /// The cache.
    pub redis: RedisConfig,
    /// How many replicas must confirm a record before it is acknowledged.
    pub redis_replicas: u32,
    /// The archive, for records that the cache cannot take.
    pub archive_bucket: String,
    /// The markers of such records.
    pub pending_bucket: String,
    /// The workflow.
    pub state_machine_arn: String,
    /// The function that keeps refused requests.
    pub failure_function: String,
}

impl IngestConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            redis: RedisConfig::read(reader),
            redis_replicas: replicas(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            pending_bucket: reader.text("PENDING_BUCKET"),
            state_machine_arn: reader.text("STATE_MACHINE_ARN"),
            failure_function: reader.text("FAILURE_FUNCTION"),
        }
    }
}

/// What archive reads.
#[derive(Debug)]
pub struct ArchiveConfig {
    /// The cache.
    pub redis: RedisConfig,
    /// The archive.
    pub archive_bucket: String,
}

impl ArchiveConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { redis: RedisConfig::read(reader), archive_bucket: reader.text("ARCHIVE_BUCKET") }
    }
}

/// What metadata reads.
#[derive(Debug)]
pub struct MetadataConfig {
    /// The index.
    pub table_name: String,
}

impl MetadataConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { table_name: reader.text("TABLE_NAME") }
    }
}

/// What aggregate reads.
#[derive(Debug)]
pub struct AggregateConfig {
    /// The cache.
    pub redis: RedisConfig,
    /// The markers of records that never were in the cache.
    pub pending_bucket: String,
    /// The index.
    pub table_name: String,
}

impl AggregateConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            redis: RedisConfig::read(reader),
            pending_bucket: reader.text("PENDING_BUCKET"),
            table_name: reader.text("TABLE_NAME"),
        }
    }
}

/// What failure reads.
#[derive(Debug)]
pub struct FailureConfig {
    /// The cache, which may still have the payload.
    pub redis: RedisConfig,
    /// The archive, which may have it already.
    pub archive_bucket: String,
    /// The failed-records store.
    pub failed_bucket: String,
    /// The markers of records that never were in the cache.
    pub pending_bucket: String,
    /// The index.
    pub table_name: String,
    /// The dead-letter queue.
    pub dlq_url: String,
    /// The redrive queue, for letters of records that run again by themselves.
    pub redrive_queue_url: String,
    /// When they do.
    pub redrive_policy: RedrivePolicy,
    /// The notification topic.
    pub topic_arn: String,
    /// The deployment's CloudEvents source.
    pub event_source: String,
}

impl FailureConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            redis: RedisConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
            pending_bucket: reader.text("PENDING_BUCKET"),
            table_name: reader.text("TABLE_NAME"),
            dlq_url: reader.text("DLQ_URL"),
            redrive_queue_url: reader.text("REDRIVE_QUEUE_URL"),
            redrive_policy: RedrivePolicy {
                automatic: reader
                    .parsed("AUTO_REDRIVE", "true or false", |text| text.parse().ok())
                    .unwrap_or_default(),
                max_attempts: max_attempts(reader),
            },
            topic_arn: reader.text("TOPIC_ARN"),
            event_source: reader.text("EVENT_SOURCE"),
        }
    }
}

/// What reconcile reads.
#[derive(Debug)]
pub struct ReconcileConfig {
    /// The cache, with its pending entries.
    pub redis: RedisConfig,
    /// The markers of records that never were in the cache.
    pub pending_bucket: String,
    /// The index.
    pub table_name: String,
    /// The workflow.
    pub state_machine_arn: String,
    /// The function that brings records to their bad end.
    pub failure_function: String,
    /// How long a record may be pending before it is looked at.
    pub min_age: Duration,
    /// What the metrics of this deployment are told apart by.
    pub stack_name: String,
}

impl ReconcileConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            redis: RedisConfig::read(reader),
            pending_bucket: reader.text("PENDING_BUCKET"),
            table_name: reader.text("TABLE_NAME"),
            state_machine_arn: reader.text("STATE_MACHINE_ARN"),
            failure_function: reader.text("FAILURE_FUNCTION"),
            min_age: reader
                .parsed("RECONCILE_AFTER_SECONDS", "a number of seconds", |text| text.parse().ok())
                .map(Duration::from_secs)
                .unwrap_or_default(),
            stack_name: reader.text("STACK_NAME"),
        }
    }
}

/// What redrive reads.
#[derive(Debug)]
pub struct RedriveConfig {
    /// The cache.
    pub redis: RedisConfig,
    /// How many replicas must confirm a record before it counts as durable.
    pub redis_replicas: u32,
    /// The archive, which may have the payload already.
    pub archive_bucket: String,
    /// The failed-records store, which has it otherwise.
    pub failed_bucket: String,
    /// The markers of records that are in the archive.
    pub pending_bucket: String,
    /// The index.
    pub table_name: String,
    /// The workflow.
    pub state_machine_arn: String,
    /// The dead-letter queue, for letters that come back.
    pub dlq_url: String,
    /// After how many redrives a record waits for a person who insists.
    pub max_attempts: u32,
}

impl RedriveConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            redis: RedisConfig::read(reader),
            redis_replicas: replicas(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
            pending_bucket: reader.text("PENDING_BUCKET"),
            table_name: reader.text("TABLE_NAME"),
            state_machine_arn: reader.text("STATE_MACHINE_ARN"),
            dlq_url: reader.text("DLQ_URL"),
            max_attempts: max_attempts(reader),
        }
    }
}

fn replicas(reader: &mut Reader<'_>) -> u32 {
    reader.parsed("REDIS_REPLICAS", "a number of replicas", |text| text.parse().ok()).unwrap_or_default()
}

fn max_attempts(reader: &mut Reader<'_>) -> u32 {
    reader
        .parsed("REDRIVE_MAX_ATTEMPTS", "a number of redrives", |text| text.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_no_value_is_shown() {
        let lookup = |key: &str| match key {
            "REDIS_PORT" => Some("s3cret".to_owned()),
            "REDIS_HOST" => Some("cache".to_owned()),
            _ => None,
        };
        let (result, keys) = from_lookup(&lookup, ArchiveConfig::read);
        let text = result.unwrap_err().to_string();
        assert_eq!(
            keys,
            ["REDIS_HOST", "REDIS_PORT", "REDIS_SECRET_ARN", "REDIS_CA_BUNDLE", "ARCHIVE_BUCKET"]
        );
        for problem in
            ["REDIS_PORT is not a port number", "REDIS_SECRET_ARN is not set", "ARCHIVE_BUCKET is not set"]
        {
            assert!(text.contains(problem), "{text}");
        }
        assert!(!text.contains("s3cret") && !text.contains("REDIS_HOST"), "{text}");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("s3cret".to_owned())), "Secret(…)");
    }
}
