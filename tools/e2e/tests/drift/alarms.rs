//! Makes every alarm ring in a simulation of CloudWatch's evaluation, and shows that it is quiet where nothing is wrong.
//!
//! The values are those that a metric has in such a situation, after its statistic, and do not come from the template.

use super::*;

/// The values of an alarm's metric, one for each of its periods; `None` where nothing was reported.
type Values = Vec<Option<f64>>;

/// A situation: what the metric reports, and whether the alarm rings in its last period.
struct Situation {
    name: &'static str,
    values: Values,
    rings: bool,
}

fn situation(name: &'static str, values: Values, rings: bool) -> Situation {
    Situation { name, values, rings }
}

fn steady(value: f64, periods: usize) -> Values {
    vec![Some(value); periods]
}

/// A value that is reported once, with quiet periods around it.
fn once(quiet: f64, value: f64) -> Values {
    [steady(quiet, 10), steady(value, 1), steady(quiet, 1)].concat()
}

fn silence(periods: usize) -> Values {
    vec![None; periods]
}

/// Whether an alarm rings after these values. Source: Amazon CloudWatch user guide, "Evaluating an alarm" and "Configuring how CloudWatch
/// alarms treat missing data". CloudWatch may look at older values where some are missing; this model looks only at the last ones.
fn rings(alarm: &Yaml, values: &[Option<f64>]) -> bool {
    let number = |name: &str| {
        alarm[name]
            .as_f64()
            .or_else(|| alarm[name].as_i64().and_then(|it| i32::try_from(it).ok()).map(f64::from))
    };
    let count = |name: &str| alarm[name].as_i64().and_then(|count| usize::try_from(count).ok());
    let periods = count("EvaluationPeriods").unwrap();
    let needed = count("DatapointsToAlarm").unwrap_or(periods);
    assert_eq!(
        alarm["ComparisonOperator"].as_str(),
        Some("GreaterThanThreshold"),
        "the model knows no other"
    );
    let threshold = number("Threshold").unwrap();
    let missing_breaches = match alarm["TreatMissingData"].as_str() {
        Some("breaching") => true,
        Some("notBreaching") => false,
        other => panic!("the model does not know how {other:?} treats missing data"),
    };
    let last = &values[values.len().saturating_sub(periods)..];
    let breaches = |value: &&Option<f64>| value.map_or(missing_breaches, |value| value > threshold);
    last.iter().filter(breaches).count() >= needed
}

/// The situations of every alarm, by its name.
#[expect(clippy::too_many_lines, reason = "a table")]
fn situations() -> BTreeMap<&'static str, Vec<Situation>> {
    // Errors of a function that is tried again, and of one that fails each time.
    let of_errors = || {
        vec![
            situation("it works", steady(0.0, 20), false),
            situation("it is not invoked", silence(20), false),
            situation("one invocation fails", once(0.0, 1.0), false),
            situation("every invocation fails", steady(1.0, 5), true),
        ]
    };
    let of_throttles = || {
        vec![
            situation("the rate is within the quota", silence(20), false),
            situation("a burst of a minute", once(0.0, 200.0), false),
            situation("the rate is above the quota", steady(50.0, 5), true),
        ]
    };
    BTreeMap::from([
        (
            "OpenRecordAlarm",
            vec![
                situation("records take a second", steady(1.0, 20), false),
                situation(
                    "a store was away for five minutes",
                    [steady(300.0, 1), steady(2.0, 9)].concat(),
                    false,
                ),
                situation(
                    "a store is away for a quarter of an hour",
                    (0..15).map(|minute| Some(60.0 * f64::from(minute))).collect(),
                    true,
                ),
                situation("reconcile does not run", [steady(0.0, 10), silence(4)].concat(), true),
                situation(
                    "one run of reconcile is missing",
                    [steady(0.0, 10), silence(1), steady(0.0, 1)].concat(),
                    false,
                ),
            ],
        ),
        (
            "FailedRecordAlarm",
            vec![
                situation("no record has failed", steady(0.0, 10), false),
                situation("a record has failed", [steady(0.0, 10), steady(1.0, 1)].concat(), true),
                situation("it was redriven", [steady(1.0, 10), steady(0.0, 1)].concat(), false),
            ],
        ),
        (
            "DeadLetterAlarm",
            vec![
                situation("the queue is empty", steady(0.0, 10), false),
                situation("the queue was not used for six hours", silence(10), false),
                situation("there is a dead letter", [steady(0.0, 10), steady(1.0, 1)].concat(), true),
            ],
        ),
        (
            "StuckAlarm",
            vec![
                situation("nothing is stuck", steady(0.0, 20), false),
                situation(
                    "reconcile looks every five minutes, in vain",
                    [once(0.0, 1.0), steady(0.0, 4)].concat(),
                    true,
                ),
                situation("it was mended ten minutes ago", [once(0.0, 1.0), steady(0.0, 10)].concat(), false),
            ],
        ),
        (
            "ApiErrorAlarm",
            vec![
                situation("no request", silence(20), false),
                situation("one request in a thousand", steady(0.001, 20), false),
                situation("a deployment of a minute", once(0.0, 0.5), false),
                situation("no store takes requests", [steady(0.0, 10), steady(1.0, 3)].concat(), true),
            ],
        ),
        (
            "ApiLatencyAlarm",
            vec![
                situation("half a second", steady(500.0, 10), false),
                situation("one slow period", once(500.0, 20_000.0), false),
                situation("a store that hangs for a quarter of an hour", steady(8_000.0, 3), true),
            ],
        ),
        (
            "CacheMemoryAlarm",
            vec![
                situation("payloads stay for a second", steady(2.0, 10), false),
                situation("a burst of a minute", once(2.0, 80.0), false),
                situation("a node was replaced", [steady(2.0, 6), silence(4)].concat(), false),
                situation(
                    "the archive is away",
                    (0..10).map(|minute| Some(10.0 * f64::from(minute))).collect(),
                    false,
                ),
                situation("it stays away", [steady(70.0, 2), steady(90.0, 3)].concat(), true),
            ],
        ),
        ("IngestThrottledAlarm", of_throttles()),
        ("WorkflowThrottledAlarm", of_throttles()),
        ("FailureFunctionAlarm", of_errors()),
        ("ReconcileErrorAlarm", of_errors()),
        (
            "RedriveErrorAlarm",
            vec![
                situation("nothing is redriven", silence(20), false),
                situation("redrives work", steady(0.0, 20), false),
                situation(
                    "a message is left on the queue every six minutes",
                    [once(0.0, 1.0), steady(0.0, 5)].concat(),
                    true,
                ),
                situation("it was mended ten minutes ago", [once(0.0, 1.0), steady(0.0, 10)].concat(), false),
            ],
        ),
        (
            "MarkerAlarm",
            vec![
                situation("no marker", steady(0.0, 20), false),
                situation("a throttled minute", once(0.0, 20.0), false),
                situation("the table is away", [steady(0.0, 5), steady(300.0, 5)].concat(), true),
            ],
        ),
        (
            "FallbackAlarm",
            vec![
                situation("no request", silence(20), false),
                situation(
                    "a failover of two minutes",
                    [steady(0.0, 10), steady(80.0, 2), steady(0.0, 3)].concat(),
                    false,
                ),
                situation("the cache is full", [steady(0.0, 5), steady(80.0, 5)].concat(), true),
            ],
        ),
        (
            "NewVersionAlarm",
            vec![
                situation("the new version works", steady(0.0, 10), false),
                situation("its first invocation fails", [silence(5), steady(1.0, 1)].concat(), true),
            ],
        ),
        (
            "NewWorkflowAlarm",
            vec![
                situation("some stages are tried again", steady(3.0, 10), false),
                situation("every stage fails", [steady(0.0, 5), steady(200.0, 1)].concat(), true),
            ],
        ),
        (
            "ReplicationAlarm",
            vec![
                situation("all objects are copied", silence(10), false),
                situation("an object could not be copied", [silence(10), steady(1.0, 1)].concat(), true),
            ],
        ),
    ])
}

#[test]
fn every_alarm_rings_in_trouble_and_only_then() {
    let template = template();
    let resources = template["Resources"].as_hash().unwrap();
    let alarms =
        resources.iter().filter(|(_, resource)| resource["Type"].as_str() == Some("AWS::CloudWatch::Alarm"));
    let mut situations = situations();
    for (name, alarm) in alarms {
        let name = name.as_str().unwrap();
        let of_alarm = situations.remove(name).unwrap_or_else(|| panic!("no situation makes {name} ring"));
        for Situation { name: situation, values, rings: expected } in &of_alarm {
            assert_eq!(rings(&alarm["Properties"], values), *expected, "{name}: {situation}");
        }
        for expected in [true, false] {
            assert!(of_alarm.iter().any(|situation| situation.rings == expected), "{name}");
        }
    }
    assert!(situations.is_empty(), "{:?} are no alarms", situations.keys());
}
