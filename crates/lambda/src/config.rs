//! Configuration: every key a function reads, in one place.
//!
//! Each function has one type here. Its `read` names exactly the keys that `template.yaml` must set for the
//! function; a test compares the two.

mod cache;

use std::time::Duration;

use custody_aws::WorkflowType;
use custody_core::redrive_policy::{PATIENCE, RedrivePolicy};

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

/// The names of the tables that an acceptance is written to.
#[derive(Clone, Debug)]
pub struct AcceptanceTables {
    /// The open-record table.
    pub open: String,
    /// The idempotency table.
    pub claims: String,
}

impl AcceptanceTables {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self { open: reader.text("OPEN_TABLE"), claims: reader.text("CLAIMS_TABLE") }
    }
}

/// The state machine, and of which type it is.
#[derive(Clone, Debug)]
pub struct WorkflowConfig {
    /// Its ARN.
    pub state_machine_arn: String,
    /// Its type.
    pub workflow_type: WorkflowType,
}

impl WorkflowConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            state_machine_arn: reader.text("STATE_MACHINE_ARN"),
            workflow_type: reader
                .parsed("STATE_MACHINE_TYPE", "STANDARD or EXPRESS", |text| text.parse().ok())
                .unwrap_or(WorkflowType::Standard),
        }
    }
}

/// What ingest reads.
#[derive(Debug)]
pub struct IngestConfig {
    /// The cache.
    pub cache: CacheConfig,
    /// The archive, for payloads that the cache cannot take.
    pub archive_bucket: String,
    /// The failed bucket, for rejected requests.
    pub failed_bucket: String,
    /// The markers of acceptances that the table cannot take.
    pub marker_bucket: String,
    /// The tables of acceptances.
    pub tables: AcceptanceTables,
    /// The workflow.
    pub workflow: WorkflowConfig,
    /// The dead-letter queue, for requests that no store could take.
    pub dlq_url: String,
    /// The queue of rejected requests.
    pub rejected_queue_url: String,
    /// How long after its acceptance reconcile looks at a record first.
    pub first_look: Duration,
}

impl IngestConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            cache: CacheConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
            marker_bucket: reader.text("MARKER_BUCKET"),
            tables: AcceptanceTables::read(reader),
            workflow: WorkflowConfig::read(reader),
            dlq_url: reader.text("DLQ_URL"),
            rejected_queue_url: reader.text("REJECTED_QUEUE_URL"),
            first_look: seconds(reader, "FIRST_LOOK_SECONDS"),
        }
    }
}

/// What archive reads.
#[derive(Debug)]
pub struct ArchiveConfig {
    /// The cache, which has the payloads of new records.
    pub cache: CacheConfig,
    /// The archive.
    pub archive_bucket: String,
    /// The failed bucket, which has the payloads of records that failed.
    pub failed_bucket: String,
}

impl ArchiveConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            cache: CacheConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
        }
    }
}

/// What metadata reads.
#[derive(Debug)]
pub struct MetadataConfig {
    /// The record table.
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
    pub cache: CacheConfig,
    /// The record table.
    pub table_name: String,
}

impl AggregateConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { cache: CacheConfig::read(reader), table_name: reader.text("TABLE_NAME") }
    }
}

/// What failure reads.
#[derive(Debug)]
pub struct FailureConfig {
    /// The cache, which may still have the payload.
    pub cache: CacheConfig,
    /// The archive, which may have it already.
    pub archive_bucket: String,
    /// The failed bucket, which takes it otherwise.
    pub failed_bucket: String,
    /// The tables of acceptances.
    pub tables: AcceptanceTables,
    /// The record table.
    pub table_name: String,
    /// The dead-letter queue.
    pub dlq_url: String,
    /// When failed records are redriven automatically.
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
            cache: CacheConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
            tables: AcceptanceTables::read(reader),
            table_name: reader.text("TABLE_NAME"),
            dlq_url: reader.text("DLQ_URL"),
            redrive_policy: redrive_policy(reader),
            topic_arn: reader.text("TOPIC_ARN"),
            event_source: reader.text("EVENT_SOURCE"),
        }
    }
}

/// What reconcile reads.
#[derive(Debug)]
pub struct ReconcileConfig {
    /// The cache.
    pub cache: CacheConfig,
    /// The archive.
    pub archive_bucket: String,
    /// The failed bucket.
    pub failed_bucket: String,
    /// The markers of acceptances that the table could not take.
    pub marker_bucket: String,
    /// The tables of acceptances.
    pub tables: AcceptanceTables,
    /// The record table.
    pub table_name: String,
    /// The workflow.
    pub workflow: WorkflowConfig,
    /// The function that handles failures.
    pub failure_function: String,
    /// The notification topic.
    pub topic_arn: String,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    /// How long after its acceptance a record is looked at first.
    pub first_look: Duration,
    /// How long after a start an `EXPRESS` execution has certainly ended.
    pub restart_after: Duration,
    /// When failed records are redriven automatically.
    pub redrive_policy: RedrivePolicy,
    /// What the metrics of this deployment are told apart by.
    pub stack_name: String,
}

impl ReconcileConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            cache: CacheConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
            marker_bucket: reader.text("MARKER_BUCKET"),
            tables: AcceptanceTables::read(reader),
            table_name: reader.text("TABLE_NAME"),
            workflow: WorkflowConfig::read(reader),
            failure_function: reader.text("FAILURE_FUNCTION"),
            topic_arn: reader.text("TOPIC_ARN"),
            event_source: reader.text("EVENT_SOURCE"),
            first_look: seconds(reader, "FIRST_LOOK_SECONDS"),
            restart_after: seconds(reader, "RESTART_AFTER_SECONDS"),
            redrive_policy: redrive_policy(reader),
            stack_name: reader.text("STACK_NAME"),
        }
    }
}

/// What redrive reads.
#[derive(Debug)]
pub struct RedriveConfig {
    /// The tables of acceptances.
    pub tables: AcceptanceTables,
    /// The record table.
    pub table_name: String,
    /// The workflow.
    pub workflow: WorkflowConfig,
    /// The dead-letter queue, for dead letters that come back.
    pub dlq_url: String,
    /// How often a record may be tried again.
    pub redrive_policy: RedrivePolicy,
    /// How long after its redrive reconcile looks at a record first.
    pub first_look: Duration,
}

impl RedriveConfig {
    /// Reads the keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            tables: AcceptanceTables::read(reader),
            table_name: reader.text("TABLE_NAME"),
            workflow: WorkflowConfig::read(reader),
            dlq_url: reader.text("DLQ_URL"),
            redrive_policy: redrive_policy(reader),
            first_look: seconds(reader, "FIRST_LOOK_SECONDS"),
        }
    }
}

fn seconds(reader: &mut Reader<'_>, key: &'static str) -> Duration {
    let number = reader.parsed(key, "a number of seconds", |text| text.parse().ok());
    number.map(Duration::from_secs).unwrap_or_default()
}

fn redrive_policy(reader: &mut Reader<'_>) -> RedrivePolicy {
    RedrivePolicy {
        automatic: reader
            .parsed("AUTO_REDRIVE", "true or false", |text| text.parse().ok())
            .unwrap_or_default(),
        max_attempts: reader
            .parsed("REDRIVE_MAX_ATTEMPTS", "a number of redrives", |text| text.parse().ok())
            .unwrap_or_default(),
        patience: PATIENCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_no_value_is_shown() {
        let lookup = |key: &str| match key {
            "CACHE_PORT" => Some("s3cret".to_owned()),
            "CACHE_HOST" => Some("cache".to_owned()),
            _ => None,
        };
        let (result, keys) = from_lookup(&lookup, ArchiveConfig::read);
        let text = result.unwrap_err().to_string();
        assert_eq!(
            keys,
            [
                "CACHE_HOST",
                "CACHE_PORT",
                "CACHE_SECRET_ARN",
                "CACHE_CA_BUNDLE",
                "CACHE_DURABILITY",
                "CACHE_REPLICAS",
                "CACHE_ADMISSION",
                "ARCHIVE_BUCKET",
                "FAILED_BUCKET"
            ]
        );
        for problem in
            ["CACHE_PORT is not a port number", "CACHE_SECRET_ARN is not set", "ARCHIVE_BUCKET is not set"]
        {
            assert!(text.contains(problem), "{text}");
        }
        assert!(!text.contains("s3cret") && !text.contains("CACHE_HOST"), "{text}");
    }
}
