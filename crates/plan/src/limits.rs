//! What limits the rate of records, in the order in which it is reached.

use serde::Serialize;

use crate::{
    cache::CachePlan,
    facts::Facts,
    load::{CacheDurability, Load, WorkflowType},
    record::{self, WriteUnits},
};

/// A limit of the rate.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// The quota or resource that is used up, with its amount.
    pub of: String,
    /// The rate that it allows.
    pub records_per_second: f64,
    /// The change that raises the limit, for a person.
    pub raise: String,
    /// The page or the file that names the limit.
    pub source: String,
}

/// The concurrency that the template reserves for archive: the default of its parameter `ArchiveConcurrency`.
pub(crate) const RESERVED_FOR_ARCHIVE: f64 = 200.0;
/// The concurrency that the template reserves for all functions together, without the authorizer. A drift test adds it up in the template.
pub const RESERVED: u32 = 374;
/// Requests per second of an API: the default of the template's parameter `StageRateLimit`.
pub const REQUESTS_OF_A_STAGE: u32 = 5000;
/// The partitions of a source in the index `BySourceSystem`.
const PARTITIONS_OF_A_SOURCE: f64 = 16.0;

/// Returns all limits, the lowest first.
pub(crate) fn of(facts: &Facts, load: &Load, cache: &CachePlan) -> Vec<Limit> {
    let mut limits = Vec::new();
    // Of an account, all deployments together have a quota; of a table, a prefix or a shard, each deployment has its own.
    let deployments = f64::from(cache.deployments);
    let mut quota = |name: &str, per_record: f64, holders: f64| {
        let (value, quota) = facts.quota(name, load.quotas);
        limits.push(Limit {
            of: format!("{value:.0} {}", quota.unit),
            records_per_second: value * holders / per_record,
            raise: quota.raise.clone(),
            source: facts.sources[&quota.source].url.clone(),
        });
    };
    let writes = WriteUnits::of(load);
    quota("apiRequests", 1.0, 1.0);
    match load.workflow {
        WorkflowType::Standard => {
            quota("standardStarts", 1.0, 1.0);
            quota("standardTransitions", f64::from(record::TRANSITIONS), 1.0);
        }
        WorkflowType::Express => quota("expressStarts", 1.0, 1.0),
    }
    // The larger of the two tables that every record is written to.
    let table_writes = writes.open.max(writes.record);
    quota("tableWrites", table_writes, deployments);
    quota("newTableWrites", table_writes, deployments);
    quota("partitionWrites", writes.record_index, deployments * PARTITIONS_OF_A_SOURCE);
    quota("s3Puts", 1.0, deployments);
    quota("publishes", f64::from(record::PUBLISHES), 1.0);
    if load.durability == CacheDurability::Sync {
        quota("durableWrites", load.size / 1_048_576.0, f64::from(cache.shards) * deployments);
    }
    limits.extend(of_lambda(facts, load, deployments));
    limits.push(Limit {
        of: format!("{REQUESTS_OF_A_STAGE} requests/s of the API"),
        records_per_second: f64::from(REQUESTS_OF_A_STAGE) * deployments,
        raise: "the template's parameter StageRateLimit".to_owned(),
        source: "template.yaml".to_owned(),
    });
    limits.sort_by(|a, b| a.records_per_second.total_cmp(&b.records_per_second));
    limits
}

fn of_lambda(facts: &Facts, load: &Load, deployments: f64) -> Vec<Limit> {
    let (concurrency, quota) = facts.quota("lambdaConcurrency", load.quotas);
    let (requests, _) = facts.quota("lambdaRequestsPerConcurrency", load.quotas);
    // Where all that is reserved is more than the quota, the last deployments fail: nothing is left.
    let unreserved = (concurrency - f64::from(RESERVED) * deployments).max(0.0);
    let seconds: f64 = record::runs(load).iter().map(|run| run.seconds).sum();
    let of_archive = record::archive_seconds(load);
    let raise = if unreserved > 0.0 {
        &quota.raise
    } else {
        "a larger quota, or several accounts: the deployments reserve more than the quota"
    };
    let source = &facts.sources[&quota.source].url;
    let limit = |of: String, records_per_second, raise: &str| Limit {
        of,
        records_per_second,
        raise: raise.to_owned(),
        source: source.clone(),
    };
    vec![
        limit(
            format!("{unreserved:.0} concurrent executions of ingest, metadata and aggregate"),
            unreserved / (seconds - of_archive),
            raise,
        ),
        limit(
            format!("{:.0} invocations/s of ingest, metadata and aggregate", unreserved * requests),
            unreserved * requests / f64::from(record::INVOCATIONS - 1),
            raise,
        ),
        limit(
            format!(
                "{RESERVED_FOR_ARCHIVE:.0} concurrent executions of archive, or {:.0} invocations/s",
                RESERVED_FOR_ARCHIVE * requests
            ),
            deployments * (RESERVED_FOR_ARCHIVE / of_archive).min(RESERVED_FOR_ARCHIVE * requests),
            "the template's parameter ArchiveConcurrency, and the quota of Lambda",
        ),
    ]
}
