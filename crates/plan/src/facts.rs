//! Prices, quotas and node types of AWS, with their dates and sources: `facts.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The prices, quotas and node types of this release.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The day on which the facts were collected.
    pub as_of: String,
    /// The Region of the prices.
    pub region: String,
    /// Where each fact was read.
    pub sources: BTreeMap<String, Source>,
    pub(crate) prices: BTreeMap<String, Price>,
    pub(crate) quotas: BTreeMap<String, Quota>,
    pub(crate) nodes: Vec<NodeType>,
}

/// A page or file with facts.
#[derive(Debug, Deserialize)]
pub struct Source {
    /// The name of the page.
    pub name: String,
    /// The address of the page.
    pub url: String,
    /// Its date, as far as it is known.
    pub date: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Price {
    pub(crate) unit: String,
    /// From which amount a month each price per unit applies: `[amount, USD]`.
    pub(crate) usd: Vec<(f64, f64)>,
    pub(crate) source: String,
    /// Whether the price was seen in a copy of the source.
    pub(crate) verified: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Quota {
    pub(crate) large: f64,
    pub(crate) small: f64,
    pub(crate) unit: String,
    /// What raises it.
    pub(crate) raise: String,
    pub(crate) source: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeType {
    #[serde(rename = "type")]
    pub(crate) name: String,
    /// The memory for data: ElastiCache reserves a quarter of the node's.
    pub(crate) usable_gib: f64,
    pub(crate) baseline_gbps: f64,
    pub(crate) usd_per_hour: f64,
    /// What the durability `sync` costs in addition.
    pub(crate) sync_usd_per_hour: f64,
}

/// The quotas of a Region. AWS gives more in its large ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionQuotas {
    /// us-east-1.
    Large,
    /// The smallest quota of any Region.
    Small,
}

impl Facts {
    /// Returns the facts of this release.
    pub fn of_this_release() -> Self {
        serde_json::from_str(include_str!("facts.json")).expect("a test reads facts.json")
    }

    /// Returns what this amount of a service costs in a month, in USD.
    pub(crate) fn cost(&self, price: &str, amount: f64) -> f64 {
        let tiers = &self.prices[price].usd;
        let ends = tiers.iter().skip(1).map(|tier| tier.0).chain([f64::INFINITY]);
        tiers.iter().zip(ends).map(|((from, usd), to)| (amount.min(to) - from).max(0.0) * usd).sum()
    }

    pub(crate) fn quota(&self, quota: &str, region: RegionQuotas) -> (f64, &Quota) {
        let quota = &self.quotas[quota];
        let value = match region {
            RegionQuotas::Large => quota.large,
            RegionQuotas::Small => quota.small,
        };
        (value, quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_has_a_source() {
        let facts = Facts::of_this_release();
        let of_prices = facts.prices.values().map(|price| &price.source);
        for source in of_prices.chain(facts.quotas.values().map(|quota| &quota.source)) {
            assert!(facts.sources.contains_key(source), "{source}");
        }
        assert!(facts.nodes.iter().all(|node| node.usable_gib > 0.0 && node.usd_per_hour > 0.0));
    }

    #[test]
    fn an_amount_is_charged_tier_by_tier() {
        let facts = Facts::of_this_release();
        // 333 million requests at 3.50 USD per million, 67 million at 2.80.
        let cost = facts.cost("apigw.rest.request", 400e6);
        assert!((cost - (333.0 * 3.5 + 67.0 * 2.8)).abs() < 1e-6, "{cost}");
        assert!((facts.cost("s3.put", 1e6) - 5.0).abs() < 1e-9);
    }
}
