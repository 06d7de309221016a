//! One deployment of several, with its share of the load and its limits.

use crate::{
    Plan,
    facts::Facts,
    limits::{REQUESTS_OF_A_STAGE, RESERVED, RESERVED_FOR_ARCHIVE},
    load::WorkflowType,
    record::{self, WriteUnits},
};

/// A deployment: its load, how long its functions take, and its limits.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The records that come to this deployment per second, at the peak.
    pub rate: f64,
    /// The size of a payload, in bytes.
    pub size: f64,
    /// Whether payloads are uploaded to S3, past the cache and the functions.
    pub uploads: bool,
    pub(super) ingest_seconds: f64,
    pub(super) archive_seconds: f64,
    pub(super) metadata_seconds: f64,
    pub(super) aggregate_seconds: f64,
    /// Requests per second of the API, and at once.
    pub(super) requests: (f64, f64),
    /// Environments that ingest, metadata and aggregate share.
    pub(super) shared_concurrency: f64,
    /// Invocations per second of these functions.
    pub(super) shared_invocations: f64,
    pub(super) archive_concurrency: f64,
    /// Starts of executions per second.
    pub(super) starts: f64,
    /// The notifications per second that the account may publish, shared by the deployments in it.
    pub(super) publishes: f64,
    /// Records whose writes the tables take, per second.
    pub(super) table_records: f64,
    /// The starts that one run of reconcile makes. Handled failures count as starts here.
    pub(super) starts_of_a_run: f64,
    /// The memory of the cache for payloads, in bytes.
    pub(super) cache_bytes: f64,
}

/// The default of the template's parameter `StageBurstLimit`. A drift test compares.
pub const REQUESTS_AT_ONCE: u32 = 2500;

/// The default of the template's parameter `ReconcileStarts`. A drift test compares.
pub const STARTS_OF_A_RUN: u32 = 2000;

/// How a task of the workflow is retried: after a random time up to a delay that doubles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retries {
    pub first_delay: f64,
    pub longest_delay: f64,
    pub count: u32,
}

/// The retries of archive, and of the failure function but for its longest delay of 30 s.
pub const RETRIES_OF_ARCHIVE: Retries = Retries { first_delay: 1.0, longest_delay: 45.0, count: 7 };

impl Retries {
    /// The longest time until a retry, or `None` after the last.
    pub(super) fn delay(self, retry: u32) -> Option<f64> {
        (retry < self.count).then(|| (self.first_delay * f64::from(1_u32 << retry)).min(self.longest_delay))
    }
}

/// What is larger than AWS's and the template's defaults, for one deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raised {
    /// Whether each deployment has an account of its own.
    pub own_accounts: bool,
    /// The account's quota of concurrent executions of Lambda.
    pub concurrency: Option<f64>,
    /// The template's parameter `ArchiveConcurrency`.
    pub archive_concurrency: Option<f64>,
    /// The template's parameter `WarmWriteUnits`.
    pub write_units: Option<f64>,
    /// The template's parameter `ReconcileStarts`.
    pub starts_of_a_run: Option<f64>,
    /// Whether payloads are uploaded.
    pub uploads: bool,
}

impl Cell {
    /// Returns one of the deployments that a plan needs.
    pub fn of(facts: &Facts, plan: &Plan, raised: Raised) -> Self {
        let load = &plan.load;
        let deployments = f64::from(plan.cache.deployments);
        let in_an_account = if raised.own_accounts { 1.0 } else { deployments };
        let quota = |name: &str| facts.quota(name, load.quotas).0;
        let concurrency = raised.concurrency.unwrap_or_else(|| quota("lambdaConcurrency")) / in_an_account;
        let archive_concurrency = raised.archive_concurrency.unwrap_or(RESERVED_FOR_ARCHIVE);
        let reserved = f64::from(RESERVED) - RESERVED_FOR_ARCHIVE + archive_concurrency;
        let shared_concurrency = (concurrency - reserved).max(0.0);
        let [ingest, archive, metadata, aggregate] = record::runs(load).map(|run| run.seconds);
        let writes = WriteUnits::of(load);
        let write_units =
            raised.write_units.unwrap_or_else(|| quota("newTableWrites")).min(quota("tableWrites"));
        let starts = match load.workflow {
            WorkflowType::Standard => {
                quota("standardStarts").min(quota("standardTransitions") / f64::from(record::TRANSITIONS))
            }
            WorkflowType::Express => quota("expressStarts"),
        };
        let memory = facts.nodes.iter().find(|node| node.name == plan.cache.node_type);
        Self {
            rate: load.peak_rate / deployments,
            size: load.size,
            uploads: raised.uploads,
            // S3 copies an upload while the function waits: 60 ms and 10 ms a MB. An estimate.
            ingest_seconds: if raised.uploads { 0.06 + load.size / 1e8 } else { ingest },
            archive_seconds: if raised.uploads { 0.03 } else { archive },
            metadata_seconds: metadata,
            aggregate_seconds: aggregate,
            requests: (
                f64::from(REQUESTS_OF_A_STAGE).min(quota("apiRequests") / in_an_account),
                f64::from(REQUESTS_AT_ONCE),
            ),
            shared_concurrency,
            shared_invocations: shared_concurrency * quota("lambdaRequestsPerConcurrency"),
            archive_concurrency: archive_concurrency.min(concurrency),
            starts: starts / in_an_account,
            publishes: quota("publishes") / in_an_account,
            table_records: write_units / writes.open.max(writes.record),
            starts_of_a_run: raised.starts_of_a_run.unwrap_or(f64::from(STARTS_OF_A_RUN)),
            cache_bytes: memory.map_or(0.0, |node| node.usable_gib * 1_073_741_824.0)
                * f64::from(plan.cache.shards),
        }
    }
}
