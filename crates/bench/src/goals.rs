//! The targets, as ratios within one run where a ratio says more than a time.

use crate::figures::{Figures, Goal, InitFigures, LatencyFigures};

/// Holds figures against every target.
pub fn judge(figures: &Figures) -> Vec<Goal> {
    let at = |function: &str, size: &str| {
        figures.latency.iter().find(|case| case.function == function && case.size == size)
    };
    let wall = |function, size| at(function, size).and_then(LatencyFigures::wall_ratio);
    let init = |program: &str| {
        let found = |init: &&InitFigures| init.program == program;
        figures.init.iter().find(found).map(|init| init.time_us.p50)
    };
    let median = |size| at("ingest", size).map(|case| case.measured.wall_us.p50);
    let goal = |name, limit, unit, value| Goal { name, limit, value, unit };
    #[expect(clippy::cast_precision_loss, reason = "a size in memory")]
    let peak = at("ingest", "6 MB").map(|case| case.measured.peak_memory_bytes as f64 / 1e6);
    vec![
        goal("ingest, 6 MB event, wall p50 / floor", 1.25, "x", wall("ingest", "6 MB")),
        goal("ingest, 1 MB event, wall p50 / floor", 1.5, "x", wall("ingest", "1 MB")),
        goal("ingest, 256 KB event, wall p50 / floor", 3.0, "x", wall("ingest", "256 KB")),
        goal(
            "ingest, 6 MB event, CPU / floor",
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
        goal("archive, 4.7 MB payload, wall p50 / (raw GET + raw PUT)", 1.5, "x", wall("archive", "4.7 MB")),
        goal(
            "ingest, growth, 6 MB wall p50 / 1 MB wall p50",
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

    #[test]
    fn a_target_that_is_missed_or_not_measured_is_named() {
        let goal = |name, value| Goal { name, limit: 1.5, value, unit: "x" };
        assert_eq!(verdict(&[goal("a", Some(1.5))]).unwrap(), "All 1 targets are met.");
        let goals = [goal("a", Some(1.4)), goal("b", Some(1.51)), goal("c", None), goal("d", Some(f64::NAN))];
        assert_eq!(verdict(&goals).unwrap_err(), "Missed: b; c; d");
    }

    #[test]
    fn a_run_without_figures_meets_nothing() {
        let figures = Figures {
            machine: String::new(),
            command: String::new(),
            init: Vec::new(),
            latency: Vec::new(),
            throughput: Vec::new(),
            goals: Vec::new(),
        };
        assert!(judge(&figures).iter().all(|goal| !goal.is_met()));
    }
}
