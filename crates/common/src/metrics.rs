//! Metrics in CloudWatch's embedded metric format: a line of the log that CloudWatch reads as metrics. Source: "Embedded
//! metric format specification" of Amazon CloudWatch.

use std::io::Write as _;

use custody_core::clock::{Clock as _, Timestamp};
use custody_core::stages::reconcile::Report;
use serde_json::{Value, json};

use crate::clock::SystemClock;

/// Where the metrics are in CloudWatch.
pub const NAMESPACE: &str = "Custody";

/// How long the oldest pending record has been pending: the pipeline's main alarm.
pub const OLDEST_PENDING_AGE: &str = "OldestPendingAge";

/// How many records reconcile cannot help.
pub const STUCK: &str = "ReconcileStuck";

/// Writes what one run of reconcile saw and did.
pub fn emit(stack_name: &str, report: &Report) {
    let line = embedded(stack_name, report, SystemClock.now()).to_string();
    // Without standard output there is nobody to tell.
    writeln!(std::io::stdout(), "{line}").ok();
}

fn embedded(stack_name: &str, report: &Report, now: Timestamp) -> Value {
    let counts = [
        ("PendingRecords", report.pending),
        ("ReconcileStarted", report.started),
        ("ReconcileRunning", report.running),
        ("ReconcileCleared", report.cleared),
        ("ReconcileFailed", report.failed),
        ("ReconcilePostponed", report.postponed + report.not_reached),
        (STUCK, report.stuck),
        ("ReconcileErrors", report.errors),
    ];
    // An age that leaves out what could not be seen would be a lie. Without it, the alarm rings.
    let age = (report.errors == 0).then_some(report.oldest_pending_age_seconds);
    let mut metrics: Vec<_> =
        age.iter().map(|_| json!({"Name": OLDEST_PENDING_AGE, "Unit": "Seconds"})).collect();
    metrics.extend(counts.iter().map(|(name, _)| json!({"Name": name, "Unit": "Count"})));
    let mut line = json!({
        "_aws": {
            "Timestamp": now.unix_ms(),
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["Stack"]], "Metrics": metrics}],
        },
        "Stack": stack_name,
    });
    if let Some(age) = age {
        line[OLDEST_PENDING_AGE] = age.into();
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
        let report = Report { pending: 3, oldest_pending_age_seconds: 700, stuck: 1, ..Report::default() };
        let line = embedded("custody", &report, Timestamp::from_unix_ms(5).unwrap());
        let announced = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        assert!(announced.len() > 5);
        for metric in announced {
            assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
        }
        assert_eq!((&line["Stack"], &line[OLDEST_PENDING_AGE]), (&"custody".into(), &700.into()));
        let blind = embedded("custody", &Report { errors: 1, ..report }, Timestamp::from_unix_ms(5).unwrap());
        assert!(blind[OLDEST_PENDING_AGE].is_null(), "what cannot be seen has no age");
        assert_eq!((&line["PendingRecords"], &line["ReconcileStuck"]), (&3.into(), &1.into()));
    }
}
