//! What CloudWatch knows: receipts of the last half hour, the load of the cache's nodes, and the alarms.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_cloudwatch::{
    Client,
    primitives::DateTime,
    types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat, StateValue},
};
use custody_core::clock::Timestamp;
use serde::Serialize;

use crate::deployment::Deployment;

/// How many minutes of receipts are shown.
pub(super) const MINUTES: usize = 30;

/// The minutes over which a rate is taken: CloudWatch has the last one or two only in part.
pub(super) const RATE_MINUTES: usize = 5;

/// The kinds of rejections: the values of the dimension `Kind`.
const REJECTIONS: [&str; 4] = ["invalid", "forbidden", "conflict", "unavailable"];

/// What producers got, in whole minutes, the oldest first.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipts {
    pub(super) per_minute: Vec<u64>,
    /// Bytes of payloads in the last five minutes.
    pub(super) bytes: u64,
    /// Receipts of the last five minutes whose payload went to the archive, because the cache did not take it.
    pub(super) fallbacks: u64,
    /// Requests of the last five minutes that were answered with a problem.
    pub(super) rejections: u64,
}

/// The load of the cache's busiest node, in percent; null if CloudWatch has no figure.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cache {
    pub(super) memory_percent: Option<f64>,
    pub(super) processor_percent: Option<f64>,
}

/// The alarms of the stack.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alarms {
    pub(super) count: usize,
    /// How many have no data, and so cannot ring.
    pub(super) without_data: usize,
    pub(super) ringing: Vec<Alarm>,
}

/// An alarm that rings.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Alarm {
    pub(super) name: String,
    /// The page that says what to do; null if the alarm names none.
    pub(super) runbook: Option<String>,
}

impl Alarm {
    /// The name for a person: that of the page, because CloudFormation makes the names of alarms unique with characters at their end.
    pub(super) fn text(&self) -> String {
        let page = self.runbook.as_deref().and_then(|page| page.rsplit('/').next()?.strip_suffix(".md"));
        page.unwrap_or(&self.name).to_owned()
    }
}

pub(super) async fn receipts(deployment: &Deployment, now: Timestamp) -> anyhow::Result<Receipts> {
    let stack = deployment.stack_name();
    let mut queries = vec![
        query("count", stack, "PayloadBytes", "SampleCount", None),
        query("bytes", stack, "PayloadBytes", "Sum", None),
        query("fallbacks", stack, "Fallbacks", "Sum", None),
    ];
    queries.extend(REJECTIONS.map(|kind| query(kind, stack, "Rejections", "Sum", Some(kind))));
    let results = ask(deployment, now, queries).await?;
    let minutes = |id: &str| by_minute(results.iter().find(|result| result.id() == Some(id)), now);
    let recent = |id: &str| minutes(id)[MINUTES - RATE_MINUTES..].iter().sum::<u64>();
    Ok(Receipts {
        per_minute: minutes("count"),
        bytes: recent("bytes"),
        fallbacks: recent("fallbacks"),
        rejections: REJECTIONS.iter().map(|kind| recent(kind)).sum(),
    })
}

/// Asks for the busiest node. Unverified: the expression, because the local stack evaluates none; it is that of the dashboard, with `MAX`.
pub(super) async fn cache(deployment: &Deployment, now: Timestamp) -> anyhow::Result<Cache> {
    let group = deployment.cache_name()?;
    let search = |id: &str, metric: &str| {
        MetricDataQuery::builder()
            .id(id)
            .expression(format!(
                "MAX(SEARCH('{{AWS/ElastiCache,CacheClusterId,CacheNodeId}} MetricName=\"{metric}\" {group}', 'Maximum'))"
            ))
            .period(60)
            .build()
    };
    let queries =
        vec![search("memory", "DatabaseMemoryUsagePercentage"), search("processor", "EngineCPUUtilization")];
    let results = ask(deployment, now, queries).await?;
    let newest = |id: &str| {
        let result = results.iter().find(|result| result.id() == Some(id))?;
        let newest = result.timestamps().iter().zip(result.values()).max_by_key(|(at, _)| at.secs())?;
        Some(*newest.1)
    };
    Ok(Cache { memory_percent: newest("memory"), processor_percent: newest("processor") })
}

pub(super) async fn alarms(deployment: &Deployment) -> anyhow::Result<Alarms> {
    let client = Client::new(deployment.aws.config());
    let prefix = format!("{}-", deployment.stack_name());
    let mut pages = client.describe_alarms().alarm_name_prefix(prefix).into_paginator().send();
    let mut alarms = Alarms::default();
    while let Some(page) = pages.next().await {
        for alarm in page.context("read the alarms")?.metric_alarms() {
            alarms.count += 1;
            match alarm.state_value() {
                Some(StateValue::Alarm) => alarms.ringing.push(Alarm {
                    name: alarm.alarm_name().unwrap_or_default().to_owned(),
                    runbook: alarm.alarm_description().and_then(runbook_of),
                }),
                Some(StateValue::InsufficientData) => alarms.without_data += 1,
                _ => {}
            }
        }
    }
    Ok(alarms)
}

/// Returns the page that the description of an alarm names.
fn runbook_of(description: &str) -> Option<String> {
    let (_, page) = description.split_once("Runbook: ")?;
    page.split_whitespace().next().map(str::to_owned)
}

fn query(id: &str, stack: &str, metric: &str, statistic: &str, kind: Option<&str>) -> MetricDataQuery {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let metric = Metric::builder()
        .namespace("Custody")
        .metric_name(metric)
        .set_dimensions(Some(
            [("Stack", Some(stack)), ("Kind", kind)]
                .into_iter()
                .filter_map(|(name, value)| Some(dimension(name, value?)))
                .collect(),
        ))
        .build();
    let statistic = MetricStat::builder().metric(metric).period(60).stat(statistic).build();
    MetricDataQuery::builder().id(id).metric_stat(statistic).build()
}

async fn ask(
    deployment: &Deployment,
    now: Timestamp,
    queries: Vec<MetricDataQuery>,
) -> anyhow::Result<Vec<MetricDataResult>> {
    let client = Client::new(deployment.aws.config());
    let answer = client
        .get_metric_data()
        .start_time(DateTime::from_millis(first_minute(now) * 60_000))
        .end_time(DateTime::from_millis(now.unix_ms()))
        .set_metric_data_queries(Some(queries))
        .send()
        .await;
    Ok(answer.context("read the metrics")?.metric_data_results.unwrap_or_default())
}

/// The first minute that is shown, counted since 1970.
fn first_minute(now: Timestamp) -> i64 {
    now.unix_ms() / 60_000 + 1 - i64::try_from(MINUTES).unwrap_or_default()
}

/// Returns the values of a metric by minute, the oldest first; zero where there is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of counts, which are never negative"
)]
fn by_minute(result: Option<&MetricDataResult>, now: Timestamp) -> Vec<u64> {
    let mut minutes = vec![0; MINUTES];
    for (at, value) in result.into_iter().flat_map(|result| result.timestamps().iter().zip(result.values())) {
        let minute = usize::try_from(at.secs() / 60 - first_minute(now)).ok();
        if let Some(slot) = minute.and_then(|minute| minutes.get_mut(minute)) {
            *slot += value.round() as u64;
        }
    }
    minutes
}

/// The time over which rates are taken.
pub(super) const fn rate_time() -> Duration {
    Duration::from_mins(RATE_MINUTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_into_their_minutes_and_others_are_left_out() {
        let now = Timestamp::parse("2026-11-29T10:30:20Z").unwrap();
        let at = |text: &str| DateTime::from_millis(Timestamp::parse(text).unwrap().unix_ms());
        let result = MetricDataResult::builder()
            .timestamps(at("2026-11-29T10:30:00Z"))
            .values(7.0)
            .timestamps(at("2026-11-29T10:01:00Z"))
            .values(3.0)
            .timestamps(at("2026-11-29T10:00:00Z"))
            .values(100.0)
            .build();
        let minutes = by_minute(Some(&result), now);
        assert_eq!((minutes[0], minutes[MINUTES - 1], minutes.iter().sum::<u64>()), (3, 7, 10));
        assert_eq!(by_minute(None, now), [0; MINUTES]);
    }

    #[test]
    fn an_alarm_names_its_page() {
        let description = "A failed record waits. Runbook: docs/runbooks/FailedRecordAlarm.md";
        assert_eq!(runbook_of(description).as_deref(), Some("docs/runbooks/FailedRecordAlarm.md"));
        assert_eq!(runbook_of("of somebody else"), None);
    }
}
