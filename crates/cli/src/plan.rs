//! `custody plan`: what limits a deployment, which cache it needs, and what it costs.

use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use custody_plan::{
    CacheDurability, Demand, Facts, Load, Plan, RegionQuotas, SITUATIONS, WorkflowType, capacity_table,
    duration, facts_table,
    simulation::{Cell, Outcome, Raised, Situation, simulate},
    simulation_table,
};

use serde::Serialize;

use crate::{
    CommandOutcome,
    arguments::parse_duration,
    output::{self, Output},
};

/// Options of the command.
#[derive(Args)]
pub(crate) struct Options {
    /// Records per second, on average.
    #[arg(long, value_parser = parse_rate, required_unless_present = "table", value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// The size of a payload, such as 256KB or 1MB.
    #[arg(long, value_parser = parse_size, required_unless_present = "table", value_name = "SIZE")]
    size: Option<ByteSize>,
    /// Records per second, at most. Limits and cache are planned for this rate, costs for --rate.
    #[arg(long, value_parser = parse_rate, value_name = "PER_SECOND")]
    burst: Option<f64>,
    /// The type of the workflow: the template's parameter `StateMachineType`.
    #[arg(long = "type", value_enum, ignore_case = true, default_value_t = Type::Standard, value_name = "TYPE")]
    workflow: Type,
    /// The durability of the cache: the template's parameter `CacheDurability`.
    #[arg(long, value_enum, default_value_t = Durability::Sync)]
    durability: Durability,
    /// Replicas of each shard: the template's parameter `CacheReplicas`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5), value_name = "COUNT")]
    replicas: u32,
    /// How long S3 may be away before the cache is full and ingest refuses records.
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    outage: Duration,
    /// The size of a record's metadata as JSON.
    #[arg(long, default_value = "500B", value_parser = parse_size, value_name = "SIZE")]
    metadata: ByteSize,
    /// Whether requests have an idempotency key, or are CloudEvents.
    #[arg(long)]
    keyed: bool,
    /// How many months payloads are stored: the last of these months is priced.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1200), value_name = "COUNT")]
    months: u32,
    /// The quotas of the Region: `large`, as in us-east-1, or `small`, the smallest of any Region.
    #[arg(long, value_enum, default_value_t = Quotas::Large)]
    region_quotas: Quotas,
    #[command(flatten)]
    simulation: SimulationOptions,
    /// Print the tables of docs/capacity.md instead.
    #[arg(long, exclusive = true)]
    table: bool,
}

/// Options of a simulation.
#[derive(Args)]
struct SimulationOptions {
    /// Simulate five minutes of the load, and of what may happen in them: a burst, S3 away for --outage, Step Functions away.
    #[arg(long)]
    simulate: bool,
    /// With --simulate: each deployment has an account of its own, with quotas of its own.
    #[arg(long, requires = "simulate")]
    own_accounts: bool,
    /// With --simulate: the account's quota of concurrent executions of Lambda.
    #[arg(long, requires = "simulate", value_parser = parse_rate, value_name = "COUNT")]
    lambda_concurrency: Option<f64>,
    /// With --simulate: the template's parameter `WarmWriteUnits`.
    #[arg(long, requires = "simulate", value_parser = parse_rate, value_name = "UNITS")]
    warm_write_units: Option<f64>,
    /// With --simulate: the template's parameter `ArchiveConcurrency`.
    #[arg(long, requires = "simulate", value_parser = parse_rate, value_name = "COUNT")]
    archive_concurrency: Option<f64>,
    /// With --simulate: the template's parameter `ReconcileStarts`.
    #[arg(long, requires = "simulate", value_parser = parse_rate, value_name = "COUNT")]
    reconcile_starts: Option<f64>,
    /// With --simulate: all payloads are uploaded to S3, past the cache.
    #[arg(long, requires = "simulate")]
    uploads: bool,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPERCASE")]
enum Type {
    Standard,
    Express,
}

#[derive(Clone, Copy, ValueEnum)]
enum Durability {
    Sync,
    Replicas,
}

#[derive(Clone, Copy, ValueEnum)]
enum Quotas {
    Large,
    Small,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| "expected records per second, from above 0 to 1000000".to_owned())
}

fn parse_size(text: &str) -> Result<ByteSize, String> {
    let size = text.parse().ok().filter(|size: &ByteSize| (1..=5_000_000_000).contains(&size.as_u64()));
    size.ok_or_else(|| "expected a size, such as 500B, 256KB or 1MB, up to 5GB".to_owned())
}

#[expect(clippy::cast_precision_loss, reason = "a size of at most 5 GB")]
fn bytes(size: ByteSize) -> f64 {
    size.as_u64() as f64
}

/// Computes the plan of a load from the facts of this release, and prints it.
pub(crate) fn run(output: Output, options: &Options) -> anyhow::Result<CommandOutcome> {
    let facts = Facts::of_this_release();
    let (Some(rate), Some(size)) = (options.rate, options.size) else {
        print!("{}\n{}\n{}", capacity_table(&facts), simulation_table(&facts), facts_table(&facts));
        return Ok(CommandOutcome::Complete);
    };
    let load = Load {
        peak_rate: options.burst.unwrap_or(rate).max(rate),
        metadata: bytes(options.metadata),
        keyed: options.keyed,
        workflow: match options.workflow {
            Type::Standard => WorkflowType::Standard,
            Type::Express => WorkflowType::Express,
        },
        durability: match options.durability {
            Durability::Sync => CacheDurability::Sync,
            Durability::Replicas => CacheDurability::Replicas,
        },
        replicas: options.replicas,
        outage_seconds: options.outage.as_secs_f64(),
        months: f64::from(options.months),
        quotas: match options.region_quotas {
            Quotas::Large => RegionQuotas::Large,
            Quotas::Small => RegionQuotas::Small,
        },
        ..Load::new(rate, bytes(size))
    };
    let plan = Plan::of(&facts, load);
    let asked = &options.simulation;
    if asked.simulate {
        let raised = Raised {
            own_accounts: asked.own_accounts,
            concurrency: asked.lambda_concurrency,
            write_units: asked.warm_write_units,
            archive_concurrency: asked.archive_concurrency,
            starts_of_a_run: asked.reconcile_starts,
            uploads: asked.uploads,
        };
        let cell = Cell::of(&facts, &plan, raised);
        let simulations = simulations_of(&cell, options.outage.as_secs_f64());
        output.print(&simulations, |simulations| print_simulations(&plan, simulations))?;
    } else {
        output.print(&plan, print)?;
    }
    Ok(CommandOutcome::Complete)
}

/// The simulation of one situation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Simulation {
    situation: Situation,
    outcome: Outcome,
}

/// Simulates every situation; in one of them, S3 is away for `outage` seconds.
fn simulations_of(cell: &Cell, outage: f64) -> Vec<Simulation> {
    let situations = SITUATIONS.map(|(_, situation)| match situation {
        Situation::ArchiveAway { .. } => Situation::ArchiveAway { seconds: outage },
        other => other,
    });
    let simulations =
        situations.map(|situation| Simulation { situation, outcome: simulate(cell, situation) });
    simulations.into()
}

fn print_simulations(plan: &Plan, simulations: &[Simulation]) {
    let rate = plan.load.peak_rate / f64::from(plan.cache.deployments);
    println!(
        "Five minutes of {rate:.0} records/s, simulated for one of {} deployments:",
        plan.cache.deployments
    );
    for Simulation { situation, outcome } in simulations {
        let title = match situation {
            Situation::Steady => "Nothing happens".to_owned(),
            Situation::Burst { times, seconds } => format!("{times} times the rate for {seconds:.0} s"),
            Situation::ArchiveAway { seconds } => format!("S3 answers nothing for {seconds:.0} s"),
            Situation::WorkflowAway { seconds } => {
                format!("Step Functions starts nothing for {seconds:.0} s")
            }
        };
        println!("\n{title}:");
        for (reason, records) in &outcome.refused {
            println!("  {records:.0} requests are refused, because this is used up: {reason}");
        }
        if outcome.refused.is_empty() {
            println!("  no request is refused");
        }
        let share = |records: f64| format!("{:.0} %", 100.0 * records / outcome.records);
        if outcome.completed() < 1.0 {
            println!("  ! no record is ever accepted: raise what is used up first");
            continue;
        }
        println!("  the longest wait for a receipt, with repetitions: {}", duration(outcome.longest_receipt));
        println!("  records that reconcile starts: {}", share(outcome.started_by_reconcile));
        println!(
            "  payloads that do not fit into the cache, and go to S3 at once: {}",
            share(outcome.past_the_cache)
        );
        println!("  the cache is full to {:.0} % at most", 100.0 * outcome.cache_peak);
        println!("  99 % of the records are complete after {}", duration(outcome.completed_p99));
        if outcome.incomplete > 0.0 {
            println!("  ! {:.0} records are not complete after a day", outcome.incomplete);
        } else {
            println!("  all of them are complete after {}", duration(outcome.longest_completion));
        }
    }
    println!(
        "\nAn ideal deployment: no cold starts, no noise. docs/capacity.md has what the simulation knows."
    );
}

/// The largest request, in bytes. No payload in one is larger.
#[expect(clippy::cast_precision_loss, reason = "some megabytes")]
const LARGEST_EVENT: f64 = custody_core::MAX_EVENT_BYTES as f64;

fn print(plan: &Plan) {
    if plan.load.size > LARGEST_EVENT {
        println!(
            "Note: a payload of more than 6 MB is uploaded in two requests, past the cache. This plan counts it as one request through the cache, so \
             a smaller cache is enough.\n"
        );
    }
    let cache = &plan.cache;
    let durability = if plan.load.durability == CacheDurability::Sync { "sync" } else { "replicas" };
    println!(
        "Cache: CacheNodeType={} CacheShards={} CacheReplicas={} CacheDurability={durability}",
        cache.node_type, cache.shards, plan.load.replicas
    );
    let because = match cache.decided_by {
        Demand::DurableWrites => "the durable writes of a shard",
        Demand::Memory => "the memory for payloads while S3 is away",
        Demand::Network => "the network of a node (an assumption)",
    };
    println!("       the number of shards comes from {because}");
    if cache.deployments > 1 {
        println!(
            "       one cache has at most 90 nodes: share the load among {} deployments",
            cache.deployments
        );
    }

    println!("\nWhat limits the rate, the lowest first:\n");
    let mut limits = output::table(&["RECORDS/S", "LIMIT", "RAISED BY"]);
    for limit in plan.limits.iter().take(plan.exceeded().count().max(6)) {
        let exceeded = limit.records_per_second < plan.load.peak_rate;
        let rate = format!("{:.0}{}", limit.records_per_second.floor(), if exceeded { " !" } else { "" });
        limits.add_row([rate, limit.of.clone(), limit.raise.clone()]);
    }
    println!("{limits}");
    let exceeded = plan.exceeded().count();
    if exceeded > 0 {
        let limits = output::format_count(exceeded, false, "limit is", "limits are");
        println!("\n! {limits} below {} records/s: raise them before this load comes.", plan.load.peak_rate);
    }

    println!("\nUSD a month, list prices of us-east-1, collected on {}:\n", plan.facts_as_of);
    let mut costs = output::table(&["USD", "FOR"]);
    for cost in &plan.costs {
        costs.add_row([format!("{:.2}", cost.usd_per_month), cost.of.to_owned()]);
    }
    costs.add_row([format!("{:.2}", plan.usd_per_month), "all".to_owned()]);
    if let Some(column) = costs.column_mut(0) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    println!("{costs}");
    println!(
        "\n{:.2} USD for each further million records, without cache and storage. Durations, logs and the network of a node are \
         estimates: docs/capacity.md.",
        plan.usd_per_million_records
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_have_units_and_bounds() {
        assert_eq!(parse_size("256KB").map(bytes), Ok(256_000.0));
        assert_eq!(parse_size("1 MiB").map(bytes), Ok(1_048_576.0));
        for text in ["", "1 XB", "0B", "6GB", "-1KB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "inf", "many"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
