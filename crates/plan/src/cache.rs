//! The cheapest cache that takes the load.

use serde::Serialize;

use crate::{
    facts::{Facts, NodeType},
    load::{CacheDurability, HOURS_PER_MONTH, Load},
    record::SECONDS_IN_CACHE,
};

/// The share of a shard's durable writes, network or memory that a plan uses. The rest is for uneven keys.
const USED: f64 = 0.8;

/// A cache, or several: one deployment has one.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CachePlan {
    /// The type of all nodes: the parameter `CacheNodeType`.
    pub node_type: String,
    /// Shards of each cache: the parameter `CacheShards`.
    pub shards: u32,
    /// How many deployments share the load. One cache has at most 90 nodes.
    pub deployments: u32,
    /// What decided about the number of shards.
    pub decided_by: Demand,
    /// USD a month, of all deployments.
    pub usd_per_month: f64,
}

/// What a cache must have enough of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Demand {
    /// Durable writes: 100 MiB/s of a shard.
    DurableWrites,
    /// Memory for the payloads that S3 does not take during an outage.
    Memory,
    /// The network of a node: it sends each payload to archive and to the log or its replicas. An assumption.
    Network,
}

impl CachePlan {
    /// Returns the cheapest cache for the load.
    pub(crate) fn of(facts: &Facts, load: &Load) -> Self {
        let plans = facts.nodes.iter().map(|node| plan_with(facts, load, node));
        plans.min_by(|a, b| a.usd_per_month.total_cmp(&b.usd_per_month)).expect("there are node types")
    }
}

fn plan_with(facts: &Facts, load: &Load, node: &NodeType) -> CachePlan {
    let (shards, decided_by) = shards_of(facts, load, node);
    let nodes_per_shard = f64::from(1 + load.replicas);
    let (most_nodes, _) = facts.quota("cacheNodes", load.quotas);
    let shards_per_deployment = (most_nodes / nodes_per_shard).floor();
    let deployments = (shards / shards_per_deployment).ceil();
    let shards = (shards / deployments).ceil();
    let surcharge = if load.durability == CacheDurability::Sync { node.sync_usd_per_hour } else { 0.0 };
    CachePlan {
        node_type: node.name.clone(),
        shards: whole(shards),
        deployments: whole(deployments),
        decided_by,
        usd_per_month: deployments
            * shards
            * nodes_per_shard
            * (node.usd_per_hour + surcharge)
            * HOURS_PER_MONTH,
    }
}

/// Returns the shards that the load needs with nodes of this type, and what decides about their number.
fn shards_of(facts: &Facts, load: &Load, node: &NodeType) -> (f64, Demand) {
    let bytes_per_second = load.peak_rate * load.size;
    let (durable_mib_per_second, _) = facts.quota("durableWrites", load.quotas);
    let memory = load.peak_rate * load.size * (SECONDS_IN_CACHE + load.outage_seconds);
    // A primary sends each payload to archive, and to the log or to its replicas.
    let copies = match load.durability {
        CacheDurability::Sync => 2.0,
        CacheDurability::Replicas => 1.0 + f64::from(load.replicas),
    };
    let mut demands = vec![
        (memory / (node.usable_gib * 1_073_741_824.0 * USED), Demand::Memory),
        (bytes_per_second * copies * 8.0 / (node.baseline_gbps * 1e9 * USED), Demand::Network),
    ];
    if load.durability == CacheDurability::Sync {
        demands
            .push((bytes_per_second / (durable_mib_per_second * 1_048_576.0 * USED), Demand::DurableWrites));
    }
    let (shards, decided_by) =
        demands.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are demands");
    (shards.ceil().max(1.0), decided_by)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive whole number; a larger one than u32 has is no plan"
)]
fn whole(number: f64) -> u32 {
    number as u32
}
