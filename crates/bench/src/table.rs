//! The report as tables for a person.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::figures::{Figures, Side};

/// All tables.
pub fn render(figures: &Figures) -> String {
    let sections = [
        ("Targets", goals(figures)),
        ("Start: process start to first request for an event", init(figures)),
        ("Records one after the other", latency(figures)),
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
        "wall p50",
        "wall p99",
        "whole p50",
        "CPU",
        "peak memory",
        "allocations",
        "allocated",
        "wall / floor",
        "CPU / floor",
        "records",
    ]);
    for case in &figures.latency {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let mut add = |name: String, side: &Side, ratios: [String; 2]| {
            let [wall, cpu] = ratios;
            table.add_row([
                name,
                case.size.clone(),
                millis(side.wall_us.p50),
                millis(side.wall_us.p99),
                millis(side.whole_us.p50),
                millis(side.cpu_us),
                megabytes(side.peak_memory_bytes),
                side.allocations
                    .map_or_else(|| NOT_MEASURED.to_owned(), |count| format!("{:.0}", count.calls)),
                side.allocations
                    .map_or_else(|| NOT_MEASURED.to_owned(), |count| format!("{:.2} MB", count.bytes / 1e6)),
                wall,
                cpu,
                case.records.to_string(),
            ]);
        };
        add(case.function.clone(), &case.measured, [ratio(case.wall_ratio()), ratio(case.cpu_ratio())]);
        if let Some(floor) = &case.floor {
            add(format!("{} floor", case.function), floor, [String::new(), String::new()]);
        }
    }
    table
}

fn throughput(figures: &Figures) -> Table {
    let mut table = table(&["program", "size", "processes", "records/s", "MB/s"]);
    for rate in &figures.throughput {
        table.add_row([
            rate.program.clone(),
            rate.size.clone(),
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
