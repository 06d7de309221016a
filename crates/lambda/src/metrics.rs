//! Metrics in CloudWatch's embedded metric format: CloudWatch reads a log line of this format as metrics. Source:
//! "Embedded metric format specification" of Amazon CloudWatch.
//!
//! A metric costs by the number of its dimensions' values, so there are few. The durations of functions are metrics of Lambda
//! itself.

use std::{io::Write as _, sync::OnceLock, time::Duration};

use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    problem::ProblemKind,
    stages::{ingest::Outcome, reconcile::Report},
};
use serde_json::{Map, Value, json};

/// The CloudWatch namespace of the metrics.
pub const NAMESPACE: &str = "Custody";

/// A metric: its name, its unit, and its dimensions beside `Stack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
    pub dimensions: &'static [&'static str],
}

impl Metric {
    const fn of_stack(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, dimensions: &[] }
    }

    const fn count(name: &'static str) -> Self {
        Self::of_stack(name, "Count")
    }
}

/// The age of the oldest record in progress. The pipeline's main alarm uses it.
pub const OLDEST_OPEN_AGE: Metric = Metric::of_stack("OldestOpenAge", "Seconds");
/// The number of failed records without a decision.
pub const FAILED_RECORDS: Metric = Metric::count("FailedRecords");
/// The number of records that reconcile cannot bring forward.
pub const STUCK: Metric = Metric::count("ReconcileStuck");
/// Whether a request was stored in the archive because the cache did not take it: 1 or 0.
pub const FALLBACKS: Metric = Metric::count("Fallbacks");

const OLDEST_FAILED_AGE: Metric = Metric::of_stack("OldestFailedAge", "Seconds");
const OPEN_RECORDS: Metric = Metric::count("OpenRecords");
const OPEN_OVER_TEN_MINUTES: Metric = Metric::count("OpenOverTenMinutes");
const OPEN_OVER_AN_HOUR: Metric = Metric::count("OpenOverAnHour");
const ACCEPTANCE_MARKERS: Metric = Metric::count("AcceptanceMarkers");
const DUE: Metric = Metric::count("ReconcileDue");
const STARTED: Metric = Metric::count("ReconcileStarted");
const RUNNING: Metric = Metric::count("ReconcileRunning");
const CLOSED: Metric = Metric::count("ReconcileClosed");
const FAILURES_HANDLED: Metric = Metric::count("ReconcileFailuresHandled");
const REDRIVEN: Metric = Metric::count("ReconcileRedriven");
const POSTPONED: Metric = Metric::count("ReconcilePostponed");
const RECONCILE_ERRORS: Metric = Metric::count("ReconcileErrors");

/// The time from the event to the receipt, by level of durability and by class of size.
const ACK_LATENCY: Metric =
    Metric { name: "AckLatency", unit: "Milliseconds", dimensions: &["Durability", "SizeClass"] };
const PAYLOAD_BYTES: Metric = Metric::of_stack("PayloadBytes", "Bytes");
/// Whether a receipt repeats that of an earlier request: 1 or 0.
const REPLAYS: Metric = Metric::count("Replays");
/// The requests that ingest answered with a problem, by kind: invalid, forbidden, conflict or unavailable.
const REJECTIONS: Metric = Metric { name: "Rejections", unit: "Count", dimensions: &["Kind"] };
/// The failures of stages, by function and by the name of the error.
const STAGE_ERRORS: Metric =
    Metric { name: "StageErrors", unit: "Count", dimensions: &["Function", "ErrorName"] };

/// All metrics.
pub const METRICS: [Metric; 22] = [
    OLDEST_OPEN_AGE,
    OLDEST_FAILED_AGE,
    OPEN_RECORDS,
    OPEN_OVER_TEN_MINUTES,
    OPEN_OVER_AN_HOUR,
    FAILED_RECORDS,
    ACCEPTANCE_MARKERS,
    DUE,
    STARTED,
    RUNNING,
    CLOSED,
    FAILURES_HANDLED,
    REDRIVEN,
    POSTPONED,
    STUCK,
    RECONCILE_ERRORS,
    ACK_LATENCY,
    PAYLOAD_BYTES,
    FALLBACKS,
    REPLAYS,
    REJECTIONS,
    STAGE_ERRORS,
];

/// Whose metrics this process writes.
static SOURCE: OnceLock<Source> = OnceLock::new();

#[derive(Debug)]
struct Source {
    stack: String,
    function: &'static str,
}

/// Sets the stack and the function whose metrics this process writes. A second call has no effect.
pub(crate) fn set_source(stack: String, function: &'static str) {
    SOURCE.set(Source { stack, function }).ok();
}

/// Writes the metrics of one run of reconcile.
pub fn reconciled(report: &Report) {
    write(|line| line.reconciled(report));
}

/// Writes the metrics of an answer of ingest, `latency` after the event arrived.
pub fn answered(outcome: Outcome, latency: Duration) {
    write(|line| line.answered(outcome, latency));
}

/// The name under which [`failed`] counts a message that the redrive function leaves on its queue. An alarm watches it.
pub const LEFT_ON_THE_QUEUE: &str = "LeftOnTheQueue";

/// Writes that a stage has failed with this error.
pub fn failed(error_name: &str) {
    write(|line| line.failed(error_name));
}

/// Writes one line to standard output. A process without a source, as in tests, writes none.
fn write(fill: impl FnOnce(&mut Line)) {
    let Some(source) = SOURCE.get() else { return };
    let mut line = Line::new(source);
    fill(&mut line);
    let text = line.into_json(SystemClock.now()).to_string();
    // A failure is ignored: if standard output is closed, it cannot be reported either.
    writeln!(std::io::stdout(), "{text}").ok();
}

/// A log line with metrics.
struct Line {
    values: Map<String, Value>,
    metrics: Vec<Metric>,
}

impl Line {
    fn new(source: &Source) -> Self {
        let values = [("Stack", source.stack.clone().into()), ("Function", Value::from(source.function))];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { values, metrics: Vec::new() }
    }

    fn add(&mut self, metric: Metric, value: impl Into<Value>) {
        self.values.insert(metric.name.to_owned(), value.into());
        self.metrics.push(metric);
    }

    fn set(&mut self, dimension: &str, value: &str) {
        self.values.insert(dimension.to_owned(), value.into());
    }

    fn reconciled(&mut self, report: &Report) {
        self.add(OLDEST_OPEN_AGE, report.oldest_open_age_seconds);
        self.add(OLDEST_FAILED_AGE, report.oldest_failed_age_seconds);
        for (metric, count) in [
            (OPEN_RECORDS, report.open),
            (OPEN_OVER_TEN_MINUTES, report.open_over_ten_minutes),
            (OPEN_OVER_AN_HOUR, report.open_over_an_hour),
            (FAILED_RECORDS, report.failed),
            (ACCEPTANCE_MARKERS, report.markers),
            (DUE, report.due),
            (STARTED, report.started),
            (RUNNING, report.running),
            (CLOSED, report.closed),
            (FAILURES_HANDLED, report.failures_handled),
            (REDRIVEN, report.redriven),
            (POSTPONED, report.postponed + report.not_reached),
            (STUCK, report.stuck),
            (RECONCILE_ERRORS, report.errors),
        ] {
            self.add(metric, count);
        }
    }

    fn answered(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Acknowledged { durability, size_bytes, replayed, fell_back } => {
                self.set("Durability", &durability.to_string());
                self.set("SizeClass", size_class(size_bytes));
                self.add(ACK_LATENCY, latency.as_secs_f64() * 1000.0);
                self.add(PAYLOAD_BYTES, size_bytes);
                self.add(FALLBACKS, u8::from(fell_back));
                self.add(REPLAYS, u8::from(replayed));
            }
            Outcome::Rejected(kind) => {
                self.set("Kind", rejection(kind));
                self.set("ProblemKind", kind.error_name());
                self.add(REJECTIONS, 1);
            }
        }
    }

    fn failed(&mut self, error_name: &str) {
        self.set("ErrorName", error_name);
        self.add(STAGE_ERRORS, 1);
    }

    fn into_json(self, now: Timestamp) -> Value {
        // One directive for each set of dimensions.
        let mut directives: Vec<(&[&str], Vec<Value>)> = Vec::new();
        for metric in &self.metrics {
            let announced = json!({"Name": metric.name, "Unit": metric.unit});
            match directives.iter_mut().find(|(dimensions, _)| *dimensions == metric.dimensions) {
                Some((_, metrics)) => metrics.push(announced),
                None => directives.push((metric.dimensions, vec![announced])),
            }
        }
        let directives: Vec<_> = directives
            .into_iter()
            .map(|(dimensions, metrics)| {
                let dimensions: Vec<_> = ["Stack"].iter().chain(dimensions).collect();
                json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": metrics})
            })
            .collect();
        let mut line = self.values;
        line.insert("_aws".to_owned(), json!({"Timestamp": now.unix_ms(), "CloudWatchMetrics": directives}));
        Value::Object(line)
    }
}

/// The class of a payload of this size, for the time to its receipt.
const fn size_class(size_bytes: u64) -> &'static str {
    match size_bytes {
        0..=65_536 => "to 64 KB",
        65_537..=1_048_576 => "to 1 MB",
        _ => "over 1 MB",
    }
}

/// What a producer or an operator has to do with a problem of this kind.
const fn rejection(kind: ProblemKind) -> &'static str {
    match kind.status() {
        403 => "forbidden",
        409 => "conflict",
        500.. => "unavailable",
        _ => "invalid",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use custody_core::receipt::Durability;

    use super::*;

    fn line(fill: impl FnOnce(&mut Line)) -> Value {
        let mut line = Line::new(&Source { stack: "custody".to_owned(), function: "ingest" });
        fill(&mut line);
        line.into_json(Timestamp::from_unix_ms(5).unwrap())
    }

    fn acknowledged() -> Outcome {
        let durability = Durability::Durable;
        Outcome::Acknowledged { durability, size_bytes: 300_000, replayed: false, fell_back: true }
    }

    #[test]
    fn every_metric_is_announced_with_its_dimensions_and_has_a_value() {
        let report = Report { open: 3, oldest_open_age_seconds: 700, stuck: 1, ..Report::default() };
        let lines = [
            line(|line| line.reconciled(&report)),
            line(|line| line.answered(acknowledged(), Duration::from_millis(12))),
            line(|line| line.answered(Outcome::Rejected(ProblemKind::TooLarge), Duration::ZERO)),
            line(|line| line.failed("ArchiveUnavailable")),
        ];
        let mut seen = BTreeSet::new();
        for line in &lines {
            for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
                for dimension in directive["Dimensions"][0].as_array().unwrap() {
                    assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension}");
                }
                for announced in directive["Metrics"].as_array().unwrap() {
                    let name = announced["Name"].as_str().unwrap();
                    let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
                    assert!(line[name].is_number(), "{name}");
                    assert_eq!(announced["Unit"], metric.unit, "{name}");
                    let dimensions: Vec<_> = ["Stack"].iter().chain(metric.dimensions).collect();
                    assert_eq!(directive["Dimensions"][0], json!(dimensions), "{name}");
                    assert!(seen.insert(name), "{name} is written twice");
                }
            }
        }
        assert_eq!(seen, METRICS.iter().map(|metric| metric.name).collect());
        assert_eq!((&lines[0]["Stack"], &lines[0]["OldestOpenAge"]), (&"custody".into(), &700.into()));
        assert_eq!((&lines[0]["OpenRecords"], &lines[0]["ReconcileStuck"]), (&3.into(), &1.into()));
        assert_eq!((&lines[1]["Durability"], &lines[1]["SizeClass"]), (&"durable".into(), &"to 1 MB".into()));
        assert_eq!((&lines[1]["AckLatency"], &lines[1]["Fallbacks"]), (&12.0.into(), &1.into()));
        assert_eq!((&lines[2]["Kind"], &lines[2]["ProblemKind"]), (&"invalid".into(), &"TooLarge".into()));
        assert_eq!(
            (&lines[3]["Function"], &lines[3]["ErrorName"]),
            (&"ingest".into(), &"ArchiveUnavailable".into())
        );
    }

    #[test]
    fn sizes_and_problems_have_few_classes() {
        for (size, class) in [
            (0, "to 64 KB"),
            (65_536, "to 64 KB"),
            (65_537, "to 1 MB"),
            (1_048_576, "to 1 MB"),
            (6_000_000, "over 1 MB"),
        ] {
            assert_eq!(size_class(size), class, "{size}");
        }
        for (kind, class) in [
            (ProblemKind::Forbidden, "forbidden"),
            (ProblemKind::IdempotencyConflict, "conflict"),
            (ProblemKind::AccessUnavailable, "unavailable"),
            (ProblemKind::InvalidMetadata, "invalid"),
        ] {
            assert_eq!(rejection(kind), class, "{kind:?}");
        }
    }
}
