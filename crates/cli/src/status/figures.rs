//! The figures of the screen: what each store and service says of the deployment now.

use std::{collections::BTreeMap, time::Duration};

use custody_core::{
    clock::Timestamp,
    open_record::{OpenKind, OpenRecord, OpenState},
    ports::{AcceptanceMarkers as _, OpenRecords},
    remedy::Remedy,
};
use serde::Serialize;

use super::metrics::{self, Alarms, Cache, Receipts};
use crate::{deployment::Deployment, output::plain_error, redrives, survey};

/// How many records in progress, and markers, are counted.
const MAX_COUNTED: usize = 10_000;

/// How many failed records are read for their causes, the oldest ones.
const MAX_READ: usize = 200;

/// Output of `custody status`. A part that cannot be asked is null, and among the problems.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) stack: String,
    pub(super) at: Option<Timestamp>,
    pub(super) receipts: Option<Receipts>,
    pub(super) open: Option<Open>,
    pub(super) failures: Option<Failures>,
    pub(super) queues: Queues,
    pub(super) cache: Option<Cache>,
    pub(super) alarms: Option<Alarms>,
    /// What could not be asked, and why.
    pub(super) problems: Vec<String>,
}

/// The records in progress, and the acceptance markers.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    pub(super) in_progress: usize,
    /// Whether more records are in progress than were counted.
    pub(super) at_least: bool,
    /// Of these, the records that are younger than a minute.
    pub(super) under_a_minute: usize,
    pub(super) under_ten_minutes: usize,
    pub(super) under_an_hour: usize,
    pub(super) older: usize,
    pub(super) oldest_age_seconds: u64,
    /// The acceptance markers; null if S3 could not be asked.
    pub(super) markers: Option<usize>,
    pub(super) markers_at_least: bool,
}

/// The failed records that wait for a decision.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failures {
    pub(super) count: usize,
    pub(super) at_least: bool,
    /// How many of them were read for their causes.
    pub(super) read: usize,
    /// The causes, the most frequent first.
    pub(super) causes: Vec<Cause>,
    /// How many of those that were read wait for a redrive.
    pub(super) redrives_noted: usize,
    /// When the next of these redrives is due.
    pub(super) next_redrive_at: Option<Timestamp>,
}

/// A stage and an error with which records failed, and how many did.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cause {
    pub(super) stage: String,
    pub(super) error_name: String,
    pub(super) remedy: Remedy,
    pub(super) count: usize,
    pub(super) oldest_age_seconds: u64,
}

/// The messages on queues; null where the caller may not ask.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queues {
    pub(super) dead_letters: Option<u64>,
    pub(super) redrives: Option<u64>,
    pub(super) rejected_requests: Option<u64>,
}

impl Figures {
    /// Asks every store and service. Nothing here fails: what cannot be asked is a problem among the figures.
    pub(super) async fn read(deployment: &Deployment, now: Timestamp) -> Self {
        let mut problems = Vec::new();
        let (open, failures, receipts, cache, alarms, queues) = tokio::join!(
            open(deployment, now),
            failures(deployment, now),
            metrics::receipts(deployment, now),
            metrics::cache(deployment, now),
            metrics::alarms(deployment),
            queues(deployment),
        );
        let mut known =
            |what: &str, error: anyhow::Error| problems.push(format!("{what}: {}", plain_error(&error)));
        let open =
            open.map_err(|error| known("records in progress", error)).ok().map(|(open, unknown_markers)| {
                if let Some(error) = unknown_markers {
                    known("acceptance markers", error);
                }
                open
            });
        Self {
            stack: deployment.stack_name().to_owned(),
            at: Some(now),
            open,
            failures: failures.map_err(|error| known("failed records", error)).ok(),
            receipts: receipts.map_err(|error| known("receipts", error)).ok(),
            cache: cache.map_err(|error| known("cache", error)).ok(),
            alarms: alarms.map_err(|error| known("alarms", error)).ok(),
            queues,
            problems,
        }
    }
}

async fn queues(deployment: &Deployment) -> Queues {
    let count = async |queue: anyhow::Result<crate::queue::Queue>| queue.ok()?.count().await.ok();
    Queues {
        dead_letters: count(deployment.dead_letter_queue()).await,
        redrives: deployment.redrives_waiting().await,
        rejected_requests: count(deployment.rejected_queue()).await,
    }
}

/// Counts the records in progress, and the markers. Also returns why the markers are not known.
async fn open(deployment: &Deployment, now: Timestamp) -> anyhow::Result<(Open, Option<anyhow::Error>)> {
    // Markers are listed before open records, so that a record which is adopted in between is in one list at least.
    let markers = deployment.markers()?.list(MAX_COUNTED.min(1000) + 1).await;
    let listing = deployment.open_records()?.list(OpenKind::InProgress, MAX_COUNTED).await?;
    let ages = listing.entries.iter().map(|entry| now.since(entry.accepted_at()));
    let open = Open { at_least: listing.truncated, ..Open::of(ages) };
    // The records are counted also while S3 is away.
    Ok(match markers {
        Ok(markers) => {
            let (count, markers_at_least) = (markers.len().min(1000), markers.len() > 1000);
            (Open { markers: Some(count), markers_at_least, ..open }, None)
        }
        Err(error) => (open, Some(error.into())),
    })
}

impl Open {
    /// Sorts records by their age.
    fn of(ages: impl Iterator<Item = Duration>) -> Self {
        let mut open = Self::default();
        for age in ages {
            open.in_progress += 1;
            open.oldest_age_seconds = open.oldest_age_seconds.max(age.as_secs());
            *match age.as_secs() {
                0..60 => &mut open.under_a_minute,
                60..600 => &mut open.under_ten_minutes,
                600..3600 => &mut open.under_an_hour,
                _ => &mut open.older,
            } += 1;
        }
        open
    }
}

async fn failures(deployment: &Deployment, now: Timestamp) -> anyhow::Result<Failures> {
    let open = deployment.open_records()?;
    let failed = survey::survey(&open, OpenKind::Failed, MAX_COUNTED).await?;
    let read = &failed.ids[..failed.ids.len().min(MAX_READ)];
    let records = survey::read(&open, read, OpenKind::Failed).await?;
    Ok(Failures { count: failed.ids.len(), at_least: failed.at_least, ..Failures::of(&records, now) })
}

impl Failures {
    /// Groups failed records by their cause.
    fn of(records: &[OpenRecord], now: Timestamp) -> Self {
        let mut causes: BTreeMap<(&str, &str), Cause> = BTreeMap::new();
        for record in records {
            let OpenState::Failed { failure, .. } = &record.state else { continue };
            let cause = causes.entry((&failure.stage, &failure.error_name)).or_insert_with(|| Cause {
                stage: failure.stage.clone(),
                error_name: failure.error_name.clone(),
                remedy: Remedy::of(&failure.error_name),
                count: 0,
                oldest_age_seconds: 0,
            });
            cause.count += 1;
            cause.oldest_age_seconds = cause.oldest_age_seconds.max(now.since(failure.failed_at).as_secs());
        }
        let mut causes: Vec<_> = causes.into_values().collect();
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
        let noted = redrives::of_records(records, now);
        Self {
            count: records.len(),
            at_least: false,
            read: records.len(),
            causes,
            redrives_noted: noted.len(),
            next_redrive_at: noted.first().map(|redrive| redrive.due),
        }
    }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};

    use super::*;

    #[test]
    fn records_in_progress_are_counted_by_age() {
        let ages = [0, 59, 60, 599, 600, 3599, 3600, 90_000].map(Duration::from_secs);
        let expected = Open {
            in_progress: 8,
            under_a_minute: 2,
            under_ten_minutes: 2,
            under_an_hour: 2,
            older: 2,
            oldest_age_seconds: 90_000,
            ..Open::default()
        };
        assert_eq!(Open::of(ages.into_iter()), expected);
    }

    #[test]
    fn failed_records_are_grouped_by_cause_and_the_most_frequent_comes_first() {
        let mut records = Vec::new();
        let mut now = samples::record_id().received_at();
        for (stage, error_name) in
            [("metadata", "ItemMissing"), ("archive", "AccessDenied"), ("archive", "AccessDenied")]
        {
            let mut record = samples::open_record(&samples::message(b"payload"));
            let mut failure = contract::failure_of(&record.message);
            (failure.stage, failure.error_name) = (stage.to_owned(), error_name.to_owned());
            now = failure.failed_at.after(Duration::from_secs(90));
            record.state = OpenState::Failed { failure, pending_steps: Vec::new() };
            records.push(record);
        }
        records[1].redrive_at = Some(now);
        let failures = Failures::of(&records, now);
        let causes: Vec<_> = failures.causes.iter().map(|c| (&*c.error_name, c.count, c.remedy)).collect();
        assert_eq!(
            causes,
            [("AccessDenied", 2, Remedy::MendThenRedrive), ("ItemMissing", 1, Remedy::Redrive)]
        );
        assert_eq!((failures.redrives_noted, failures.next_redrive_at), (1, Some(now)));
        assert_eq!(failures.causes[0].oldest_age_seconds, 90);
    }
}
