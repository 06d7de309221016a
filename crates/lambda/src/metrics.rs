//! Metrics in CloudWatch's embedded metric format: CloudWatch reads a log line of this format as metrics. Source:
//! "Embedded metric format specification" of Amazon CloudWatch.

use std::io::Write as _;

use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    stages::reconcile::Report,
};
use serde_json::{Value, json};

/// The CloudWatch namespace of the metrics.
pub const NAMESPACE: &str = "Custody";

/// The name of the metric for the age of the oldest record in progress. The pipeline's main alarm uses it.
pub const OLDEST_OPEN_AGE: &str = "OldestOpenAge";

/// The name of the metric for the number of failed records without a decision.
pub const FAILED_RECORDS: &str = "FailedRecords";

/// The name of the metric for the number of records that reconcile cannot bring forward.
pub const STUCK: &str = "ReconcileStuck";

/// The names of all metrics.
pub const NAMES: [&str; 14] = [
    OLDEST_OPEN_AGE,
    "OldestFailedAge",
    "OpenRecords",
    FAILED_RECORDS,
    "AcceptanceMarkers",
    "ReconcileDue",
    "ReconcileStarted",
    "ReconcileRunning",
    "ReconcileClosed",
    "ReconcileFailuresHandled",
    "ReconcileRedriven",
    "ReconcilePostponed",
    STUCK,
    "ReconcileErrors",
];

/// Writes the metrics of one run of reconcile to standard output.
pub fn emit(stack_name: &str, report: &Report) {
    let line = embedded(stack_name, report, SystemClock.now()).to_string();
    // A failure is ignored: if standard output is closed, it cannot be reported either.
    writeln!(std::io::stdout(), "{line}").ok();
}

fn embedded(stack_name: &str, report: &Report, now: Timestamp) -> Value {
    let counts = [
        ("OpenRecords", report.open),
        (FAILED_RECORDS, report.failed),
        ("AcceptanceMarkers", report.markers),
        ("ReconcileDue", report.due),
        ("ReconcileStarted", report.started),
        ("ReconcileRunning", report.running),
        ("ReconcileClosed", report.closed),
        ("ReconcileFailuresHandled", report.failures_handled),
        ("ReconcileRedriven", report.redriven),
        ("ReconcilePostponed", report.postponed + report.not_reached),
        (STUCK, report.stuck),
        ("ReconcileErrors", report.errors),
    ];
    let ages = [
        (OLDEST_OPEN_AGE, report.oldest_open_age_seconds),
        ("OldestFailedAge", report.oldest_failed_age_seconds),
    ];
    let mut metrics: Vec<_> = ages.iter().map(|(name, _)| json!({"Name": name, "Unit": "Seconds"})).collect();
    metrics.extend(counts.iter().map(|(name, _)| json!({"Name": name, "Unit": "Count"})));
    let mut line = json!({
        "_aws": {
            "Timestamp": now.unix_ms(),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["Stack"]], "Metrics": metrics}],
        },
        "Stack": stack_name,
    });
    for (name, age) in ages {
        line[name] = age.into();
    }
    for (name, count) in counts {
        line[name] = count.into();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_that_is_announced_has_a_value() {
        let report = Report { open: 3, oldest_open_age_seconds: 700, stuck: 1, ..Report::default() };
        let line = embedded("custody", &report, Timestamp::from_unix_ms(5).unwrap());
        let announced = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        let names: Vec<_> = announced.iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        assert_eq!(names, NAMES);
        for name in names {
            assert!(line[name].is_number(), "{name}");
        }
        assert_eq!((&line["Stack"], &line[OLDEST_OPEN_AGE]), (&"custody".into(), &700.into()));
        assert_eq!((&line["OpenRecords"], &line[STUCK]), (&3.into(), &1.into()));
    }
}
