//! The targets, as ratios within one run where a ratio says more than a time.

use crate::figures::{Figures, Goal, InitFigures, LatencyFigures, StartDelayFigures};

/// Holds figures against every target.
pub fn judge(figures: &Figures) -> Vec<Goal> {
    let at = |function: &str, size: &str| {
        figures.latency.iter().find(|case| case.function == function && case.size == size)
    };
    let ack = |function, size| at(function, size).and_then(LatencyFigures::ack_ratio);
    let shift = |size: &str| {
        let found = figures.start_delay.iter().find(|case| case.size == size);
        found.and_then(StartDelayFigures::ack_shift_us).map(|micros| micros / 1e3)
    };
    let init = |program: &str| {
        let found = |init: &&InitFigures| init.program == program;
        figures.init.iter().find(found).map(|init| init.time_us.p50)
    };
    let median = |size| at("ingest", size).map(|case| case.measured.times.ack_us.p50);
    let goal = |name, limit, unit, value| Goal { name, limit, value, unit };
    #[expect(clippy::cast_precision_loss, reason = "a size in memory")]
    let peak = at("ingest", "6 MB").map(|case| case.measured.peak_memory_bytes as f64 / 1e6);
    vec![
        goal("ingest, 6 MB event, ack p50 / baseline", 1.25, "x", ack("ingest", "6 MB")),
        goal("ingest, 1 MB event, ack p50 / baseline", 1.5, "x", ack("ingest", "1 MB")),
        goal("ingest, 256 KB event, ack p50 / baseline", 3.0, "x", ack("ingest", "256 KB")),
        goal("ingest, 6 MB event, shift of ack p50 by a StartExecution of 300 ms", 1.0, "ms", shift("6 MB")),
        goal(
            "ingest, 256 KB event, shift of ack p50 by a StartExecution of 300 ms",
            1.0,
            "ms",
            shift("256 KB"),
        ),
        goal(
            "ingest, 6 MB event, CPU / baseline",
            1.5,
            "x",
            at("ingest", "6 MB").and_then(LatencyFigures::cpu_ratio),
        ),
        goal("ingest, init", 20.0, "ms", init("ingest").map(|micros| micros / 1e3)),
        goal(
            "ingest, init / Python and SDK start",
            0.04,
            "x",
            init("ingest").zip(init(PYTHON)).map(|(ingest, python)| ingest / python),
        ),
        goal("ingest, 6 MB event, peak memory", 32.0, "MB", peak),
        goal("archive, 4.7 MB payload, ack p50 / (raw GET + raw PUT)", 1.5, "x", ack("archive", "4.7 MB")),
        goal(
            "ingest, growth, 6 MB ack p50 / 1 MB ack p50",
            6.5,
            "x",
            median("6 MB").zip(median("1 MB")).map(|(six, one)| six / one),
        ),
    ]
}

/// The last line of a run with `--goal`: `Err` where a target is missed, or was not measured.
pub fn verdict(goals: &[Goal]) -> Result<String, String> {
    let missed: Vec<_> = goals.iter().filter(|goal| !goal.is_met()).map(|goal| goal.name).collect();
    if missed.is_empty() {
        Ok(format!("All {} targets are met.", goals.len()))
    } else {
        Err(format!("Missed: {}", missed.join("; ")))
    }
}

/// What the start of Python with its SDK is called.
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
    fn a_run_without_figures_meets_nothing() {
        assert!(judge(&nothing()).iter().all(|goal| !goal.is_met()));
    }

    #[test]
    fn a_receipt_that_waits_for_the_start_of_the_workflow_misses_its_targets() {
        assert_eq!(judged(1500.0, 1900.0, 301_900.0), Some(true), "the work comes after the response");
        assert_eq!(judged(1500.0, 301_500.0, 301_900.0), Some(false), "the response waits");
        assert_eq!(judged(3000.0, 1500.0, 301_900.0), Some(false), "the sides cannot be compared");
        assert_eq!(judged(1500.0, 1500.0, 1900.0), None, "nothing was delayed");
    }

    /// Whether both targets of ingest with a late `StartExecution` are met; `None` where they count as not measured.
    fn judged(prompt_ack: f64, delayed_ack: f64, delayed_whole: f64) -> Option<bool> {
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
            command: String::new(),
            init: Vec::new(),
            latency: Vec::new(),
            start_delay: Vec::new(),
            throughput: Vec::new(),
            goals: Vec::new(),
        }
    }
}
