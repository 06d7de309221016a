//! What a deployment is planned for.

use serde::Serialize;

use crate::RegionQuotas;

/// The type of the workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkflowType {
    /// One execution per start, with a history.
    Standard,
    /// Cheaper, and may run a start twice.
    Express,
}

/// The durability of the cache: the template's parameter `CacheDurability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheDurability {
    /// A payload is in the transaction log.
    Sync,
    /// A payload is in the memory of all nodes of a shard.
    Replicas,
}

/// The records that a deployment takes, and the choices of the template that change limits and costs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Records per second, on average: what is paid.
    pub rate: f64,
    /// Records per second, at most: what limits and cache must bear.
    pub peak_rate: f64,
    /// The size of a payload, in bytes.
    pub size: f64,
    /// The size of a record's metadata as JSON, in bytes.
    pub metadata: f64,
    /// Whether requests have an idempotency key, or are CloudEvents, whose id is one.
    pub keyed: bool,
    /// The type of the workflow.
    pub workflow: WorkflowType,
    /// The durability of the cache.
    pub durability: CacheDurability,
    /// Replicas of each shard.
    pub replicas: u32,
    /// How long S3 may be away before the cache is full, in seconds.
    pub outage_seconds: f64,
    /// How many months payloads are stored.
    pub months: f64,
    /// The quotas of the Region.
    pub quotas: RegionQuotas,
}

impl Load {
    /// Returns the load of this rate and size, with the defaults of the template.
    pub fn new(rate: f64, size: f64) -> Self {
        Self {
            rate,
            peak_rate: rate,
            size,
            metadata: 500.0,
            keyed: false,
            workflow: WorkflowType::Standard,
            durability: CacheDurability::Sync,
            replicas: 1,
            outage_seconds: 60.0,
            months: 12.0,
            quotas: RegionQuotas::Large,
        }
    }

    pub(crate) fn records_per_month(&self) -> f64 {
        self.rate * 3600.0 * HOURS_PER_MONTH
    }
}

/// The hours of an average month, as AWS's own calculator has them.
pub(crate) const HOURS_PER_MONTH: f64 = 730.0;
