//! Computes what limits a deployment, which cache it needs and what it costs: `custody plan`.
//!
//! Prices and quotas are in `facts.json`, with dates and sources. The counts of a record are those of the template, of the state machine
//! and of the code; drift tests compare what can be compared. Durations, log sizes and the network of a cache node are estimates, and
//! a plan says so.

mod cache;
mod facts;
mod limits;
mod load;
mod price;
pub mod record;
pub mod simulation;
mod table;

use serde::Serialize;

pub use self::{
    cache::{CachePlan, Demand},
    facts::{Facts, RegionQuotas, Source},
    limits::{Limit, REQUESTS_OF_A_STAGE, RESERVED},
    load::{CacheDurability, Load, WorkflowType},
    price::{ALARMS, Cost},
    table::{SITUATIONS, capacity_table, duration, facts_table, simulation_table},
};

/// The limits, the cache and the costs of a load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What was planned for.
    pub load: Load,
    /// The cheapest cache that takes the load.
    pub cache: CachePlan,
    /// What limits the rate, the lowest first.
    pub limits: Vec<Limit>,
    /// What a month costs, by component.
    pub costs: Vec<Cost>,
    /// The sum of the costs.
    pub usd_per_month: f64,
    /// The costs that grow with the records, for a million of them: all but the cache's and without storage.
    pub usd_per_million_records: f64,
    /// The day of the prices and quotas.
    pub facts_as_of: String,
}

impl Plan {
    /// Computes the plan of a load.
    pub fn of(facts: &Facts, load: Load) -> Self {
        let cache = CachePlan::of(facts, &load);
        let costs = price::of(facts, &load, &cache);
        let usd_per_month = costs.iter().map(|cost| cost.usd_per_month).sum();
        let limits = limits::of(facts, &load, &cache);
        let grows = |cost: &&Cost| !(cost.of.starts_with("cache") || cost.of.contains("last month"));
        let growing: f64 = costs.iter().filter(grows).map(|cost| cost.usd_per_month).sum();
        let usd_per_million_records = growing / (load.records_per_month() / 1e6);
        let facts_as_of = facts.as_of.clone();
        Self { load, cache, limits, costs, usd_per_month, usd_per_million_records, facts_as_of }
    }

    /// Returns the limits that the peak rate exceeds.
    pub fn exceeded(&self) -> impl Iterator<Item = &Limit> {
        self.limits.iter().filter(|limit| limit.records_per_second < self.load.peak_rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(load: Load) -> Plan {
        Plan::of(&Facts::of_this_release(), load)
    }

    fn cost(plan: &Plan, of: &str) -> f64 {
        plan.costs.iter().find(|cost| cost.of == of).unwrap().usd_per_month
    }

    /// The lowest limit's first words and its rate.
    fn binding(load: Load) -> (String, f64) {
        let limit = plan(load).limits.remove(0);
        (limit.of, limit.records_per_second.floor())
    }

    #[test]
    fn transitions_are_the_price_of_standard_and_express_costs_a_hundredth() {
        let million_a_month = 1e6 / (3600.0 * 730.0);
        let standard = Load::new(million_a_month, 262_144.0);
        let express = Load { workflow: WorkflowType::Express, ..standard.clone() };
        // 14 million transitions at 25 USD.
        assert!((cost(&plan(standard), "Step Functions") - 350.0).abs() < 0.01);
        // One request at 1 USD per million, and three tenths of a second of 64 MB.
        let express = cost(&plan(express), "Step Functions");
        assert!((express - (1.0 + 1e6 * 0.3 * 0.0625 * 1.667e-5)).abs() < 0.01, "{express}");
    }

    #[test]
    fn starts_bind_first_in_a_large_region_and_transitions_in_a_small_one() {
        let load = Load::new(10.0, 262_144.0);
        assert_eq!(binding(load.clone()), ("300 StartExecution/s (STANDARD)".to_owned(), 300.0));
        let small = Load { quotas: RegionQuotas::Small, ..load };
        assert_eq!(binding(small.clone()), ("800 state transitions/s (STANDARD)".to_owned(), 57.0));
        let express = Load { workflow: WorkflowType::Express, ..small };
        assert_eq!(binding(express), ("300 SNS publishes/s".to_owned(), 75.0));
    }

    #[test]
    fn the_cache_has_memory_for_the_outage_and_shards_for_the_durable_writes() {
        let outage = Load { outage_seconds: 600.0, ..Load::new(100.0, 1e6) };
        // 100 MB/s for ten minutes are 60 GB.
        let long = plan(outage.clone());
        assert_eq!(long.cache.decided_by, Demand::Memory);
        let short = plan(Load { outage_seconds: 0.0, ..outage });
        assert!(short.cache.usd_per_month < long.cache.usd_per_month);

        let durable = plan(Load { outage_seconds: 0.0, ..Load::new(1000.0, 1e6) });
        assert!(durable.cache.shards * durable.cache.deployments >= 12, "a GB/s of 100 MiB/s each");
        let of_memory = Load { durability: CacheDurability::Replicas, ..durable.load.clone() };
        assert!(plan(of_memory).limits.iter().all(|limit| !limit.of.contains("durable")));
    }

    #[test]
    fn a_load_that_no_cache_takes_is_shared_by_several_deployments() {
        let huge = plan(Load::new(10_000.0, 5e6));
        assert!(huge.cache.deployments > 1, "{:?}", huge.cache);
        assert!(huge.cache.shards * 2 <= 90);
        assert!(huge.exceeded().any(|limit| limit.of.contains("StartExecution")));
    }

    #[test]
    fn a_key_costs_a_transaction_and_a_claim() {
        let load = Load::new(1.0, 262_144.0);
        let keyed = Load { keyed: true, ..load.clone() };
        let units = |load: &Load| record::write_units(load);
        assert_eq!((units(&load), units(&keyed)), (14.0, 18.0));
    }

    #[test]
    fn payloads_get_cheaper_after_a_quarter_unless_they_are_small() {
        let storage = |size, months| {
            cost(&plan(Load { months, ..Load::new(1.0, size) }), "archive: storage (S3), in the last month")
        };
        let (quarter, year) = (storage(1e6, 3.0), storage(1e6, 12.0));
        assert!(year > quarter && year < quarter * 2.5, "{quarter} {year}");
        let small = (storage(1e4, 3.0), storage(1e4, 12.0));
        assert!((small.1 - 4.0 * small.0).abs() < 1e-6, "{small:?}");
    }
}
