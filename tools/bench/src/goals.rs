//! The targets of the benchmark. A target is a ratio within one run where a ratio is more meaningful than a time.

use crate::{
    figures::{Figures, Goal, LatencyFigures, Side, StartDelayFigures},
    primitives::{Work, fastest_us},
};

/// The limits of ingest's median time to the response, by the size of its event. On a processor with SHA-256
/// instructions, the limit is a multiple of the baseline's time. On one without, it is a multiple of the baseline's
/// time plus the time of the fastest hash of the payload.
const INGEST: [(&str, [&str; 2], [f64; 2]); 4] = [
    (
        "6 MB",
        ["ingest, 6 MB event, ack p50 / baseline", "ingest, 6 MB event, ack p50 / (baseline + hash)"],
        [1.2, 1.15],
    ),
    (
        "1 MB",
        ["ingest, 1 MB event, ack p50 / baseline", "ingest, 1 MB event, ack p50 / (baseline + hash)"],
        [1.3, 1.2],
    ),
    (
        "256 KB",
        ["ingest, 256 KB event, ack p50 / baseline", "ingest, 256 KB event, ack p50 / (baseline + hash)"],
        [1.6, 1.4],
    ),
    (
        "4 KB",
        ["ingest, 4 KB event, ack p50 / baseline", "ingest, 4 KB event, ack p50 / (baseline + hash)"],
        [2.0, 2.0],
    ),
];

/// Compares figures with every target.
pub fn judge(figures: &Figures) -> Vec<Goal> {
    let found = Found(figures);
    let mut goals = acknowledgement_goals(found);
    goals.extend(resource_goals(found));
    goals.extend(delay_goals(found));
    goals.extend(throughput_goals(found));
    goals
}

/// The figures, by the names that targets use.
#[derive(Clone, Copy)]
struct Found<'a>(&'a Figures);

impl<'a> Found<'a> {
    fn at(self, function: &str, size: &str) -> Option<&'a LatencyFigures> {
        self.0.latency.iter().find(|case| case.function == function && case.size == size)
    }

    /// Returns the time that the fastest measured library needs for this work on the payload of a case.
    fn least(self, work: Work, case: &LatencyFigures) -> Option<f64> {
        fastest_us(&self.0.primitives, work, case.payload_bytes)
    }

    fn shift_ms(self, size: &str) -> Option<f64> {
        let case = self.0.start_delay.iter().find(|case| case.size == size);
        case.and_then(StartDelayFigures::ack_shift_us).map(|micros| micros / 1e3)
    }

    fn init_us(self, program: &str) -> Option<f64> {
        self.0.init.iter().find(|init| init.program == program).map(|init| init.time_us.p50)
    }

    /// Returns by what factor the time to the receipt grows from 1 MB to 6 MB.
    fn growth(self, side: fn(&LatencyFigures) -> Option<&Side>) -> Option<f64> {
        let median = |size| self.at("ingest", size).and_then(side).map(|side| side.times.ack_us.p50);
        Some(median("6 MB")? / median("1 MB")?)
    }

    fn records_per_second(self, program: &str, shards: usize) -> Option<f64> {
        let rate = self.0.throughput.iter().find(|rate| {
            (rate.program.as_str(), rate.shards) == (program, shards)
                && rate.size == "1 MB"
                && rate.processes == SATURATING_PROCESSES
        });
        rate.map(|rate| rate.records_per_second)
    }

    #[expect(clippy::cast_precision_loss, reason = "a size in memory")]
    fn peak_mb(self, function: &str, size: &str) -> Option<f64> {
        self.at(function, size).map(|case| case.measured.peak_memory_bytes as f64 / 1e6)
    }
}

fn goal(name: &'static str, limit: f64, unit: &'static str, value: Option<f64>) -> Goal {
    Goal { name, limit, value, unit }
}

/// Targets of the time to the receipt, by size.
fn acknowledgement_goals(found: Found<'_>) -> Vec<Goal> {
    let has_sha_instructions = found.0.has_sha_instructions;
    let column = usize::from(!has_sha_instructions);
    let goals = INGEST.into_iter().map(|(size, names, limits)| {
        let ratio = found.at("ingest", size).and_then(|case| {
            let hash = if has_sha_instructions { 0.0 } else { found.least(Work::Hash, case)? };
            Some(case.measured.times.ack_us.p50 / (case.baseline.as_ref()?.times.ack_us.p50 + hash))
        });
        goal(names[column], limits[column], "x", ratio)
    });
    goals.collect()
}

/// Targets of processor time, memory and start.
fn resource_goals(found: Found<'_>) -> [Goal; 9] {
    let cpu = found.at("ingest", "6 MB").and_then(|case| {
        let work = found.least(Work::Hash, case)? + found.least(Work::Decode, case)?;
        Some(case.measured.cpu_us / (case.baseline.as_ref()?.cpu_us + work))
    });
    let archive = found.at("archive", "4.7 MB").and_then(LatencyFigures::ack_ratio);
    let init = found.init_us("ingest");
    let query = found.at("query", "any").map(|case| case.measured.times.ack_us.p50 / 1e3);
    let list = found.at("list", "any").map(|case| case.measured.times.ack_us.p50 / 1e3);
    let query_init = found.init_us("query").map(|micros| micros / 1e3);
    let python = init.zip(found.init_us(PYTHON)).map(|(ingest, python)| ingest / python);
    [
        goal("ingest, 6 MB event, CPU / (baseline + hash + decoding)", 1.25, "x", cpu),
        goal("archive, 4.7 MB payload, ack p50 / (raw GET + raw PUT)", 1.2, "x", archive),
        goal("ingest, 6 MB event, peak memory", 32.0, "MB", found.peak_mb("ingest", "6 MB")),
        goal("archive, 4.7 MB payload, peak memory", 16.0, "MB", found.peak_mb("archive", "4.7 MB")),
        goal("ingest, init", 20.0, "ms", init.map(|micros| micros / 1e3)),
        goal("ingest, init / Python and SDK start", 0.04, "x", python),
        goal("query, one record, ack p50", 1.0, "ms", query),
        goal("query, 100 records from all partitions, ack p50", 5.0, "ms", list),
        goal("query, init", 20.0, "ms", query_init),
    ]
}

/// Targets of what a receipt does not wait for, and of how it grows with the size.
fn delay_goals(found: Found<'_>) -> [Goal; 3] {
    let (large, small) = (found.shift_ms("6 MB"), found.shift_ms("256 KB"));
    let growth = found.growth(|case| Some(&case.measured)).zip(found.growth(|case| case.baseline.as_ref()));
    let growth = growth.map(|(ingest, baseline)| ingest / baseline);
    [
        goal("ingest, 6 MB event, later by a StartExecution of 300 ms: ack p50", 1.0, "ms", large),
        goal("ingest, 256 KB event, later by a StartExecution of 300 ms: ack p50", 1.0, "ms", small),
        goal("growth from 1 MB to 6 MB, ingest / baseline", 1.05, "x", growth),
    ]
}

/// Targets of throughput.
fn throughput_goals(found: Found<'_>) -> [Goal; 2] {
    let rate = |program, shards| found.records_per_second(program, shards);
    let saturated =
        rate("ingest baseline", 1).zip(rate("ingest", 1)).map(|(baseline, ingest)| baseline / ingest);
    let sharded = rate("ingest", 1).zip(rate("ingest", 2)).map(|(one, two)| one / two);
    [
        goal("8 processes at 1 MB, records per second, baseline / ingest", 1.0 / 0.85, "x", saturated),
        goal("8 processes at 1 MB, records per second, one shard / two", 1.0 / 1.5, "x", sharded),
    ]
}

/// The number of processes that use the whole machine.
const SATURATING_PROCESSES: usize = 8;

/// Returns the last line of a run with `--goal`: `Err` if a target is missed or was not measured.
pub fn verdict(goals: &[Goal]) -> Result<String, String> {
    let missed: Vec<_> = goals.iter().filter(|goal| !goal.is_met()).map(|goal| goal.name).collect();
    if missed.is_empty() {
        Ok(format!("All {} targets are met.", goals.len()))
    } else {
        Err(format!("Missed: {}", missed.join("; ")))
    }
}

/// The name in reports of the Python program that starts with the AWS SDK.
pub const PYTHON: &str = "python + boto3";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Quantiles, TimeFigures};

    #[test]
    fn a_target_that_is_missed_or_not_measured_is_named() {
        let goal = |name, value| Goal { name, limit: 1.5, value, unit: "x" };
        assert_eq!(verdict(&[goal("a", Some(1.5))]).unwrap(), "All 1 targets are met.");
        let goals = [goal("a", Some(1.4)), goal("b", Some(1.51)), goal("c", None), goal("d", Some(f64::NAN))];
        assert_eq!(verdict(&goals).unwrap_err(), "Missed: b; c; d");
    }

    #[test]
    fn a_run_without_figures_meets_no_target() {
        assert!(judge(&nothing()).iter().all(|goal| !goal.is_met()));
    }

    #[test]
    fn a_receipt_that_waits_for_the_start_of_the_workflow_misses_its_targets() {
        assert_eq!(
            are_start_delay_targets_met(1500.0, 1900.0, 301_900.0),
            Some(true),
            "the work comes after the response"
        );
        assert_eq!(
            are_start_delay_targets_met(1500.0, 301_500.0, 301_900.0),
            Some(false),
            "the response waits"
        );
        assert_eq!(are_start_delay_targets_met(1500.0, 1500.0, 1900.0), None, "nothing was delayed");
    }

    /// Returns whether both targets of ingest with a late `StartExecution` are met; `None` if they count as not
    /// measured.
    fn are_start_delay_targets_met(prompt_ack: f64, delayed_ack: f64, delayed_whole: f64) -> Option<bool> {
        let times = |ack: f64, whole: f64| TimeFigures {
            ack_us: Quantiles { p50: ack, p99: ack },
            whole_us: Quantiles { p50: whole, p99: whole },
        };
        let case = |size: &str| StartDelayFigures {
            size: size.to_owned(),
            size_bytes: 1,
            records: 1,
            delay_us: 300_000.0,
            prompt: times(prompt_ack, prompt_ack + 400.0),
            delayed: times(delayed_ack, delayed_whole),
        };
        let figures = Figures { start_delay: vec![case("256 KB"), case("6 MB")], ..nothing() };
        let goals = judge(&figures);
        let goals: Vec<_> = goals.iter().filter(|goal| goal.name.contains("StartExecution")).collect();
        assert_eq!(goals.len(), 2);
        assert_eq!(goals[0].is_met(), goals[1].is_met());
        goals[0].value.map(|_| goals[0].is_met())
    }

    fn nothing() -> Figures {
        Figures {
            machine: String::new(),
            has_sha_instructions: true,
            primitives: Vec::new(),
            command: String::new(),
            init: Vec::new(),
            latency: Vec::new(),
            start_delay: Vec::new(),
            several: Vec::new(),
            throughput: Vec::new(),
            goals: Vec::new(),
        }
    }
}
