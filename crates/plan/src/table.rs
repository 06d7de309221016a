//! The table of docs/capacity.md.

use crate::{
    Facts, Load, Plan, RegionQuotas, WorkflowType,
    simulation::{Cell, Outcome, Raised, Situation, simulate},
};

/// Returns the table of docs/capacity.md, in Markdown: rates, sizes and both types of workflow.
pub fn capacity_table(facts: &Facts) -> String {
    let mut table = "| records/s | payload | type | cache | USD a month | of it the workflow | per million records | first limit, us-east-1 | \
                     first limit, smallest Region |\n| ---: | ---: | --- | --- | ---: | ---: | ---: | --- | --- |\n"
        .to_owned();
    for rate in [10.0, 100.0, 1_000.0, 10_000.0] {
        for (size, name) in [(256e3, "256 KB"), (1e6, "1 MB"), (5e6, "5 MB")] {
            for workflow in [WorkflowType::Standard, WorkflowType::Express] {
                let load = Load { workflow, ..Load::new(rate, size) };
                let small = Plan::of(facts, Load { quotas: RegionQuotas::Small, ..load.clone() });
                let plan = Plan::of(facts, load);
                let workflows = plan.costs.iter().find(|cost| cost.of == "Step Functions");
                let row = format!(
                    "| {} | {name} | {} | {} | {} | {} | {:.0} | {} | {} |\n",
                    thousands(rate),
                    if workflow == WorkflowType::Standard { "STANDARD" } else { "EXPRESS" },
                    cache(&plan),
                    thousands(plan.usd_per_month),
                    thousands(workflows.map_or(0.0, |cost| cost.usd_per_month)),
                    plan.usd_per_million_records,
                    first_limit(&plan),
                    first_limit(&small),
                );
                table.push_str(&row);
            }
        }
    }
    table
}

/// Returns the prices and quotas of a plan with their sources, in Markdown.
pub fn facts_table(facts: &Facts) -> String {
    let source = |id: &str| {
        let source = &facts.sources[id];
        format!("[{}]({}), {}", source.name, source.url, source.date)
    };
    let mut table = "| fact | value | source |\n| --- | --- | --- |\n".to_owned();
    for price in facts.prices.values() {
        let tiers = price.usd.iter().map(|(from, usd)| match *from {
            0.0 => format!("{usd} USD"),
            from => format!("{usd} from {} on", thousands(from)),
        });
        let (tiers, unseen) = (tiers.collect::<Vec<_>>(), if price.verified { "" } else { ", not verified" });
        let row = format!("| {} | {}{unseen} | {} |", price.unit, tiers.join(", "), source(&price.source));
        table.push_str(&row);
        table.push('\n');
    }
    for quota in facts.quotas.values() {
        let value = match (quota.large, quota.small) {
            (large, small) if (large - small).abs() < f64::EPSILON => thousands(large),
            (large, small) => format!("{}; {} in the smallest Region", thousands(large), thousands(small)),
        };
        let row = format!("| {} | {value} | {} |", quota.unit, source(&quota.source));
        table.push_str(&row);
        table.push('\n');
    }
    table
}

/// What may happen while records come, with its name.
pub const SITUATIONS: [(&str, Situation); 4] = [
    ("nothing happens", Situation::Steady),
    ("twice the rate for 30 s", Situation::Burst { times: 2.0, seconds: 30.0 }),
    ("S3 away for 60 s", Situation::ArchiveAway { seconds: 60.0 }),
    ("Step Functions away for 60 s", Situation::WorkflowAway { seconds: 60.0 }),
];

/// Returns the simulations of docs/capacity.md, in Markdown: 10,000 records a second of 1 MB.
pub fn simulation_table(facts: &Facts) -> String {
    let mut table = "| deployments | what happens | requests refused | longest wait for a receipt | started by reconcile | past the cache | \
                     cache, at most | complete after, 99 % | complete after, all |\n\
                     | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        .to_owned();
    let load = Load { workflow: WorkflowType::Express, ..Load::new(10_000.0, 1e6) };
    let plan = Plan::of(facts, load);
    let own = Raised { own_accounts: true, ..Raised::default() };
    let raised = Raised { concurrency: Some(3000.0), write_units: Some(20_000.0), ..own };
    let prompt = Raised { archive_concurrency: Some(500.0), starts_of_a_run: Some(50_000.0), ..raised };
    let variants = [
        ("in accounts of their own, defaults", own),
        ("the same, Lambda's quota 3,000, `WarmWriteUnits=20000`", raised),
        ("the same, `ArchiveConcurrency=500`, `ReconcileStarts=50000`", prompt),
        ("the same, uploads only", Raised { uploads: true, ..prompt }),
    ];
    for (name, variant) in variants {
        let cell = Cell::of(facts, &plan, variant);
        for (happens, situation) in SITUATIONS {
            let row = row_of(&simulate(&cell, situation));
            let row = format!("| {} {name} | {happens} | {row} |\n", plan.cache.deployments);
            table.push_str(&row);
        }
    }
    table
}

/// An outcome as cells of a table.
fn row_of(outcome: &Outcome) -> String {
    let share = |records: f64| format!("{:.0} %", 100.0 * records / outcome.records);
    let refused = outcome.refused.first().map_or("0".to_owned(), |(reason, _)| {
        format!("{}; first used up: {reason}", thousands(outcome.refusals()))
    });
    let all = if outcome.incomplete > 0.0 {
        "not all in a day".to_owned()
    } else {
        duration(outcome.longest_completion)
    };
    [
        refused,
        duration(outcome.longest_receipt),
        share(outcome.started_by_reconcile),
        share(outcome.past_the_cache),
        format!("{:.0} %", 100.0 * outcome.cache_peak),
        if outcome.completed() > 0.0 { duration(outcome.completed_p99) } else { "-".to_owned() },
        all,
    ]
    .join(" | ")
}

/// Formats seconds for a person.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

fn cache(plan: &Plan) -> String {
    let one = format!("{} × `{}`", plan.cache.shards, plan.cache.node_type);
    if plan.cache.deployments == 1 { one } else { format!("{} deployments of {one}", plan.cache.deployments) }
}

/// The lowest limit, in bold where the load exceeds it.
fn first_limit(plan: &Plan) -> String {
    let Some(limit) = plan.limits.first() else { return String::new() };
    let text = format!("{} records/s: {}", thousands(limit.records_per_second.floor()), limit.of);
    if limit.records_per_second < plan.load.peak_rate { format!("**{text}**") } else { text }
}

/// Formats a number without decimals, with a comma before each three digits.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(7.0, "7"), (999.6, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn the_tables_of_the_documentation_are_the_generated_ones() {
        let page = include_str!("../../../docs/capacity.md");
        let facts = Facts::of_this_release();
        for table in [capacity_table(&facts), simulation_table(&facts), facts_table(&facts)] {
            assert!(
                page.contains(&table),
                "docs/capacity.md has another table; `custody plan --table` prints:\n{table}"
            );
        }
    }
}
