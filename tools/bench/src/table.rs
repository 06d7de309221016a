//! Renders the report as tables for a person.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::{
    cache_bytes::{CacheUsage, Load},
    figures::{Figures, Side, TimeFigures},
    primitives::{Speed, Work},
};

/// Returns all tables as text.
pub fn render(figures: &Figures) -> String {
    let sections = [
        ("Targets", goals(figures)),
        ("What hashing and decoding cost at least", primitives(figures)),
        ("Start: process start to first request for an event", init(figures)),
        ("Records one after the other", latency(figures)),
        ("This build compared with the build before", before(figures)),
        ("The time to a receipt while Step Functions is slow (ingest)", start_delay(figures)),
        ("Several requests in one process (ingest)", several(figures)),
        ("Records side by side (ingest, all processes together)", throughput(figures)),
    ];
    let mut text = format!("Machine: {}\nCommand: {}\n", figures.machine, figures.command);
    for (title, table) in sections.into_iter().filter(|(_, table)| table.row_count() > 0) {
        write!(text, "\n{title}\n\n{table}\n").expect("a string takes all text");
    }
    text
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

const NOT_MEASURED: &str = "not measured";

fn goals(figures: &Figures) -> Table {
    let mut table = table(&["target", "limit", "measured", "met"]);
    for goal in &figures.goals {
        let value = goal.value.map_or_else(|| NOT_MEASURED.to_owned(), |value| number(value, goal.unit));
        let met = if goal.is_met() { "yes" } else { "no" };
        table.add_row([goal.name.to_owned(), number(goal.limit, goal.unit), value, met.to_owned()]);
    }
    table
}

fn number(value: f64, unit: &str) -> String {
    format!("{value:.*} {unit}", if value < 1.0 { 3 } else { 2 })
}

fn primitives(figures: &Figures) -> Table {
    let mut table = table(&["library", "work", "MB/s"]);
    for Speed { work, library, megabytes_per_second } in &figures.primitives {
        let work = match work {
            Work::Hash => "SHA-256",
            Work::Decode => "base64, decoded bytes",
        };
        table.add_row([library.clone(), work.to_owned(), format!("{megabytes_per_second:.0}")]);
    }
    table
}

fn init(figures: &Figures) -> Table {
    let mut table = table(&["program", "p50", "p99", "starts"]);
    for init in &figures.init {
        table.add_row([
            init.program.clone(),
            millis(init.time_us.p50),
            millis(init.time_us.p99),
            init.starts.to_string(),
        ]);
    }
    table
}

fn latency(figures: &Figures) -> Table {
    let mut table = table(&[
        "program",
        "size",
        "ack p50",
        "ack p99",
        "whole p50",
        "CPU",
        "peak memory",
        "allocations",
        "allocated",
        "ack / baseline",
        "CPU / baseline",
        "records",
    ]);
    for case in &figures.latency {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let mut add = |name: String, side: &Side, ratios: [String; 2]| {
            let [ack, cpu] = ratios;
            table.add_row([
                name,
                case.size.clone(),
                millis(side.times.ack_us.p50),
                millis(side.times.ack_us.p99),
                millis(side.times.whole_us.p50),
                millis(side.cpu_us),
                megabytes(side.peak_memory_bytes),
                side.allocations
                    .map_or_else(|| NOT_MEASURED.to_owned(), |count| format!("{:.0}", count.calls)),
                side.allocations
                    .map_or_else(|| NOT_MEASURED.to_owned(), |count| format!("{:.2} MB", count.bytes / 1e6)),
                ack,
                cpu,
                case.records.to_string(),
            ]);
        };
        add(case.function.clone(), &case.measured, [ratio(case.ack_ratio()), ratio(case.cpu_ratio())]);
        if let Some(baseline) = &case.baseline {
            add(format!("{} baseline", case.function), baseline, [String::new(), String::new()]);
        }
        if let Some(before) = &case.before {
            add(format!("{} before", case.function), before, [String::new(), String::new()]);
        }
    }
    table
}

/// Returns the figures of this build divided by those of the other build.
fn before(figures: &Figures) -> Table {
    let mut table = table(&[
        "program",
        "size",
        "ack p50 / before",
        "whole p50 / before",
        "CPU / before",
        "peak memory / before",
    ]);
    for (case, before) in figures.latency.iter().filter_map(|case| Some((case, case.before.as_ref()?))) {
        let now = &case.measured;
        #[expect(clippy::cast_precision_loss, reason = "a size in memory")]
        let memory = now.peak_memory_bytes as f64 / before.peak_memory_bytes as f64;
        let ratios = [
            now.times.ack_us.p50 / before.times.ack_us.p50,
            now.times.whole_us.p50 / before.times.whole_us.p50,
            now.cpu_us / before.cpu_us,
            memory,
        ];
        let texts = ratios.map(|ratio| format!("{ratio:.3}"));
        table.add_row([case.function.clone(), case.size.clone()].into_iter().chain(texts));
    }
    table
}

fn start_delay(figures: &Figures) -> Table {
    let mut table = table(&[
        "StartExecution answers after",
        "size",
        "ack p50",
        "ack p99",
        "whole p50",
        "whole p99",
        "ack p50 / at once",
        "whole p50 / at once",
        "records",
    ]);
    for case in &figures.start_delay {
        for (delay_us, side) in [(0.0, &case.prompt), (case.delay_us, &case.delayed)] {
            let ratio = |time: fn(&TimeFigures) -> f64| format!("{:.2}", time(side) / time(&case.prompt));
            table.add_row([
                format!("{:.0} ms", delay_us / 1e3),
                case.size.clone(),
                millis(side.ack_us.p50),
                millis(side.ack_us.p99),
                millis(side.whole_us.p50),
                millis(side.whole_us.p99),
                ratio(|times| times.ack_us.p50),
                ratio(|times| times.whole_us.p50),
                case.records.to_string(),
            ]);
        }
    }
    table
}

fn several(figures: &Figures) -> Table {
    let mut table =
        table(&["requests at once", "requests", "ack p50", "ack p99", "records/s", "peak memory", "records"]);
    for figure in &figures.several {
        table.add_row([
            figure.concurrency.to_string(),
            figure.requests.clone(),
            millis(figure.ack_us.p50),
            millis(figure.ack_us.p99),
            format!("{:.0}", figure.records_per_second),
            megabytes(figure.peak_memory_bytes),
            figure.records.to_string(),
        ]);
    }
    table
}

fn throughput(figures: &Figures) -> Table {
    let mut table = table(&["program", "size", "shards", "processes", "records/s", "MB/s"]);
    for rate in &figures.throughput {
        table.add_row([
            rate.program.clone(),
            rate.size.clone(),
            rate.shards.to_string(),
            rate.processes.to_string(),
            format!("{:.0}", rate.records_per_second),
            format!("{:.0}", rate.megabytes_per_second),
        ]);
    }
    table
}

fn millis(micros: f64) -> String {
    format!("{:.2} ms", micros / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "a size in memory")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// Returns a table of what the cache holds at a steady rate without and with a grace period, and the ratio of the two.
pub fn cache_bytes(load: &Load, unlinked: &CacheUsage, kept: &CacheUsage) -> String {
    let mut table = table(&[
        "payload of a completed record",
        "payloads/s",
        "payloads held",
        "bytes held",
        "seconds of load held",
        "expected",
    ]);
    let delay = load.workflow_delay.as_secs_f64();
    // The figures are medians of the last quarter of the time, so they show its middle.
    let elapsed = f64::from(load.seconds) * 0.875;
    let with_grace = delay + load.grace.as_secs_f64();
    for (name, held, expected) in [
        ("unlinked".to_owned(), unlinked, delay),
        (format!("kept for {} s", load.grace.as_secs()), kept, with_grace),
    ] {
        table.add_row([
            name,
            format!("{:.1}", held.rate),
            format!("{:.0}", held.payloads),
            format!("{:.1} MB", held.bytes / 1e6),
            format!("{:.2} s", held.seconds()),
            format!("{:.2} s", expected.min(elapsed)),
        ]);
    }
    let ratio = kept.seconds() / unlinked.seconds();
    let mut text = format!("{table}\n\nWith the grace period, the cache holds {ratio:.1} times as much.\n");
    if elapsed < with_grace {
        let plateau = with_grace / unlinked.seconds();
        writeln!(
            text,
            "It was still growing: it takes {with_grace:.0} s to be full, and then holds {plateau:.0} times as much."
        )
        .expect("a string takes all text");
    }
    text
}
