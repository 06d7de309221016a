//! The configuration of every function, and every environment key that it is read from.
//!
//! Each function has one configuration type here. Its method `read` reads exactly the keys that `template.yaml` must
//! set for the function. A test compares the two.

mod authorizer;
mod cache;
mod query;
mod upload;

use std::time::Duration;

use custody_aws::WorkflowType;
use custody_core::redrive_policy::{PATIENCE, RedrivePolicy};

pub use self::{
    authorizer::AuthorizerConfig,
    cache::CacheConfig,
    query::QueryConfig,
    upload::{TransferConfig, UploadConfig},
};

/// Reads configuration keys and collects all problems with them.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
    keys: Vec<&'static str>,
}

/// The error of a configuration: the list of all its problems.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not usable: {}", .0.join("; "))]
pub struct ConfigError(Vec<String>);

impl Reader<'_> {
    /// Returns the text of `key`.
    pub fn text(&mut self, key: &'static str) -> String {
        self.parsed(key, "text", |text| Some(text.to_owned())).unwrap_or_default()
    }

    /// Returns the parsed value of `key`. `expected` describes the valid values in an error message.
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
                // The value is not shown, because it may be a secret. The message names the key and the valid values.
                None => format!("{key} is not {expected}"),
            },
        };
        self.problems.push(problem);
        None
    }
}

/// Reads a configuration with `lookup`. Returns the configuration and the list of the keys that were read.
pub fn from_lookup<T>(
    lookup: &dyn Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> (Result<T, ConfigError>, Vec<&'static str>) {
    let mut reader = Reader { lookup, problems: Vec::new(), keys: Vec::new() };
    let value = read(&mut reader);
    let result = if reader.problems.is_empty() { Ok(value) } else { Err(ConfigError(reader.problems)) };
    (result, reader.keys)
}

#[expect(clippy::disallowed_methods, reason = "only this function reads the environment")]
pub(crate) fn from_environment<T>(read: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, ConfigError> {
    from_lookup(&|key| std::env::var(key).ok(), read).0
}

/// The names of the two tables that an acceptance writes.
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

/// The state machine that runs the workflow.
#[derive(Clone, Debug)]
pub struct WorkflowConfig {
    /// The ARN of the state machine.
    pub state_machine_arn: String,
    /// The type of the state machine.
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

/// The configuration of ingest.
#[derive(Debug)]
pub struct IngestConfig {
    /// The origin whose pages may read answers in a browser; `*` for every origin.
    pub allowed_origin: String,
    /// The name of the access table (DynamoDB).
    pub access_table: String,
    /// The cache.
    pub cache: CacheConfig,
    /// The archive bucket, for payloads that the cache cannot store.
    pub archive_bucket: String,
    /// The failed bucket, for rejected requests.
    pub failed_bucket: String,
    /// The bucket of the markers of acceptances that the table cannot store.
    pub marker_bucket: String,
    /// The open-record table and the idempotency table.
    pub tables: AcceptanceTables,
    /// The workflow that this stage starts.
    pub workflow: WorkflowConfig,
    /// The URL of the dead-letter queue, for requests that no store could accept.
    pub dlq_url: String,
    /// The URL of the queue of rejected requests.
    pub rejected_queue_url: String,
    /// The upload table, the staging bucket and the allowed sources, for payloads that are sent by reference.
    pub transfers: TransferConfig,
    /// The time from a record's acceptance to reconcile's first look at it.
    pub first_look: Duration,
}

impl IngestConfig {
    /// Reads the configuration from its keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            allowed_origin: reader.text("ALLOWED_ORIGIN"),
            access_table: reader.text("ACCESS_TABLE"),
            cache: CacheConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
            marker_bucket: reader.text("MARKER_BUCKET"),
            tables: AcceptanceTables::read(reader),
            workflow: WorkflowConfig::read(reader),
            dlq_url: reader.text("DLQ_URL"),
            rejected_queue_url: reader.text("REJECTED_QUEUE_URL"),
            transfers: TransferConfig::read(reader),
            first_look: seconds(reader, "FIRST_LOOK_SECONDS"),
        }
    }
}

/// The configuration of archive.
#[derive(Debug)]
pub struct ArchiveConfig {
    /// The cache, from which the payloads of new records are read.
    pub cache: CacheConfig,
    /// The archive bucket.
    pub archive_bucket: String,
    /// The failed bucket, from which the payloads of redriven records are read.
    pub failed_bucket: String,
}

impl ArchiveConfig {
    /// Reads the configuration from its keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            cache: CacheConfig::read(reader),
            archive_bucket: reader.text("ARCHIVE_BUCKET"),
            failed_bucket: reader.text("FAILED_BUCKET"),
        }
    }
}

/// The configuration of metadata.
#[derive(Debug)]
pub struct MetadataConfig {
    /// The name of the record table (DynamoDB).
    pub table_name: String,
}

impl MetadataConfig {
    /// Reads the configuration from its keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { table_name: reader.text("TABLE_NAME") }
    }
}

/// The configuration of aggregate.
#[derive(Debug)]
pub struct AggregateConfig {
    /// The cache.
    pub cache: CacheConfig,
    /// The name of the record table (DynamoDB).
    pub table_name: String,
}

impl AggregateConfig {
    /// Reads the configuration from its keys.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self { cache: CacheConfig::read(reader), table_name: reader.text("TABLE_NAME") }
    }
}

/// The configuration of the failure function.
#[derive(Debug)]
pub struct FailureConfig {
    /// The cache, which may still contain the payload.
    pub cache: CacheConfig,
    /// The archive bucket, which may already contain the payload.
    pub archive_bucket: String,
    /// The failed bucket, in which a payload that is not archived is preserved.
    pub failed_bucket: String,
    /// The open-record table and the idempotency table.
    pub tables: AcceptanceTables,
    /// The name of the record table (DynamoDB).
    pub table_name: String,
    /// The URL of the dead-letter queue.
    pub dlq_url: String,
    /// When failed records are redriven automatically.
    pub redrive_policy: RedrivePolicy,
    /// The notification topic.
    pub topic_arn: String,
    /// The deployment's CloudEvents source.
    pub event_source: String,
}

impl FailureConfig {
    /// Reads the configuration from its keys.
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

/// The configuration of reconcile.
#[derive(Debug)]
pub struct ReconcileConfig {
    /// The cache.
    pub cache: CacheConfig,
    /// The archive bucket.
    pub archive_bucket: String,
    /// The failed bucket.
    pub failed_bucket: String,
    /// The bucket of the markers of acceptances that the table could not store.
    pub marker_bucket: String,
    /// The open-record table and the idempotency table.
    pub tables: AcceptanceTables,
    /// The name of the record table (DynamoDB).
    pub table_name: String,
    /// The workflow that this stage starts.
    pub workflow: WorkflowConfig,
    /// The function that handles failures.
    pub failure_function: String,
    /// The notification topic.
    pub topic_arn: String,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    /// The time from a record's acceptance to reconcile's first look at it.
    pub first_look: Duration,
    /// The time after a start when an `EXPRESS` execution has certainly ended.
    pub restart_after: Duration,
    /// The maximum number of executions that one run starts.
    pub max_starts: usize,
    /// When failed records are redriven automatically.
    pub redrive_policy: RedrivePolicy,
}

impl ReconcileConfig {
    /// Reads the configuration from its keys.
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
            max_starts: reader
                .parsed("MAX_STARTS", "a number of executions", |text| text.parse().ok())
                .unwrap_or_default(),
            redrive_policy: redrive_policy(reader),
        }
    }
}

/// The configuration of redrive.
#[derive(Debug)]
pub struct RedriveConfig {
    /// The open-record table and the idempotency table.
    pub tables: AcceptanceTables,
    /// The name of the record table (DynamoDB).
    pub table_name: String,
    /// The workflow that this stage starts.
    pub workflow: WorkflowConfig,
    /// The URL of the dead-letter queue, for dead letters of records that are not redriven.
    pub dlq_url: String,
    /// The policy that limits how often a record is redriven.
    pub redrive_policy: RedrivePolicy,
    /// The time from a record's redrive to reconcile's first look at it.
    pub first_look: Duration,
}

impl RedriveConfig {
    /// Reads the configuration from its keys.
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
    fn all_problems_are_reported_at_once_without_values() {
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
