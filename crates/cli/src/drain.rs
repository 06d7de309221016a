//! `custody drain`: waits until the cache holds no payload that a record still needs, so that the cache can be replaced.

use std::time::Duration;

use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock},
    error::StageError,
    open_record::{FailureStep, OpenKind, OpenRecord, OpenState},
    ports::{AcceptanceMarkers, OpenRecords},
    receipt::Durability,
};
use serde::Serialize;

use crate::{
    CommandOutcome,
    arguments::parse_duration,
    deployment::Deployment,
    output::{Output, format_count, format_duration},
    survey::{self, MAX_COUNTED, survey},
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How long to wait for records that need the cache. When none does, the command watches for another minute.
    #[arg(long, default_value = "15min", value_parser = parse_duration, value_name = "TIME")]
    wait: Duration,
}

/// The pause between two looks. Reconcile works once a minute.
const PAUSE: Duration = Duration::from_secs(10);

/// How long every look must find nothing. A request that ingest took before the cache was closed may run for 28 s, and the index of
/// open records may be some seconds late.
const QUIET: Duration = Duration::from_mins(1);

/// What keeps the cache from being replaced.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct InUse {
    /// Records in progress whose attempt began with its payload in the cache.
    in_progress: Count,
    /// Failed records whose payload is not removed from the cache yet.
    failed: Count,
    /// Acceptance markers: their payloads may be in the cache.
    markers: Count,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    count: usize,
    /// Whether there may be more, because not all were read.
    at_least: bool,
}

impl InUse {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn describe(&self) -> String {
        let parts = [
            (self.in_progress, "record in progress", "records in progress"),
            (self.failed, "failed record", "failed records"),
            (self.markers, "acceptance marker", "acceptance markers"),
        ];
        let parts = parts.into_iter().filter(|(count, ..)| *count != Count::default());
        let parts =
            parts.map(|(Count { count, at_least }, one, many)| format_count(count, at_least, one, many));
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Returns whether the cache may hold a payload that this record needs.
fn needs_the_cache(record: &OpenRecord) -> bool {
    match &record.state {
        OpenState::InProgress => record.durability != Durability::Archived,
        OpenState::Failed { pending_steps, .. } => pending_steps.contains(&FailureStep::Unlink),
    }
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    Options { wait }: Options,
) -> anyhow::Result<CommandOutcome> {
    deployment.expect_closed_cache()?;
    let (open, markers) = (deployment.open_records()?, deployment.markers()?);
    let deadline = SystemClock.now().after(wait);
    let mut nothing_since = None;
    let mut said = String::new();
    loop {
        let (in_use, now) = (look(&open, &markers).await, SystemClock.now());
        let in_use = match in_use {
            Ok(in_use) => in_use,
            // A store that does not answer now may answer later.
            Err(error) if now >= deadline => return Err(error.into()),
            Err(error) => {
                output.complain(&format!("{error}; trying again"));
                nothing_since = None;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if in_use.is_nothing() {
            let since = *nothing_since.get_or_insert(now);
            if now.since(since) >= QUIET {
                output.print(&in_use, |_| {
                    println!(
                        "The cache holds nothing that a record needs. Deploy the change of the cache now, and then CacheAdmission=open."
                    );
                })?;
                return Ok(CommandOutcome::Complete);
            }
        } else {
            nothing_since = None;
            if now >= deadline {
                output.print(&in_use, |in_use| {
                    println!(
                        "The cache is still needed: {}. `custody open` and `custody failed` list them.",
                        in_use.describe()
                    );
                })?;
                return Ok(CommandOutcome::Partial);
            }
        }
        let progress = if in_use.is_nothing() {
            format!("nothing needs the cache; watching for {} whether it stays so", format_duration(QUIET))
        } else {
            format!("{}; waiting up to {}", in_use.describe(), format_duration(deadline.since(now)))
        };
        if !output.json && said != progress {
            println!("{progress}");
            said = progress;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Counts what is in the cache. Markers are listed first: a record that is adopted in between is then seen in both lists.
async fn look(open: &impl OpenRecords, markers: &impl AcceptanceMarkers) -> Result<InUse, StageError> {
    const PAGE_OF_MARKERS: usize = 1000;
    let markers = markers.list(PAGE_OF_MARKERS).await?.len();
    let mut in_use =
        InUse { markers: Count { count: markers, at_least: markers == PAGE_OF_MARKERS }, ..InUse::default() };
    for kind in [OpenKind::InProgress, OpenKind::Failed] {
        let known = survey(open, kind, MAX_COUNTED).await?;
        let records = survey::read(open, &known.ids, kind).await?;
        let count = records.iter().filter(|record| needs_the_cache(record)).count();
        let count = Count { count, at_least: known.at_least };
        match kind {
            OpenKind::InProgress => in_use.in_progress = count,
            OpenKind::Failed => in_use.failed = count,
        }
    }
    Ok(in_use)
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{
        contract,
        doubles::{MemoryMarkers, MemoryOpenRecords},
        samples,
    };

    use super::*;

    #[test]
    fn a_record_needs_the_cache_until_its_payload_is_elsewhere() {
        let mut record = samples::open_record(&samples::message(b"payload"));
        assert!(needs_the_cache(&record));
        record.durability = Durability::Archived;
        assert!(!needs_the_cache(&record));
        record.durability = Durability::Durable;
        let failure = contract::failure_of(&record.message);
        let failed = |pending_steps| OpenState::Failed { failure: failure.clone(), pending_steps };
        record.state = failed(vec![FailureStep::Unlink, FailureStep::Announcement]);
        assert!(needs_the_cache(&record), "the payload is preserved and still in the cache");
        record.state = failed(vec![FailureStep::Announcement]);
        assert!(!needs_the_cache(&record));
    }

    #[tokio::test]
    async fn records_in_the_cache_and_markers_are_counted_and_archived_records_are_not() {
        let (open, markers) = (MemoryOpenRecords::default(), MemoryMarkers::default());
        assert!(look(&open, &markers).await.unwrap().is_nothing());
        let mut record = samples::open_record(&samples::message(b"archived"));
        record.durability = Durability::Archived;
        open.accept(&record, None).await.unwrap();
        assert!(look(&open, &markers).await.unwrap().is_nothing());

        open.accept(&samples::open_record(&samples::message(b"cached")), None).await.unwrap();
        markers.mark(&samples::open_record(&samples::message(b"marked"))).await.unwrap();
        let in_use = look(&open, &markers).await.unwrap();
        assert_eq!(in_use.describe(), "1 record in progress, 1 acceptance marker");
    }

    #[test]
    fn what_was_not_read_to_its_end_is_not_nothing() {
        let unknown = Count { count: 0, at_least: true };
        let in_use = InUse { failed: unknown, ..InUse::default() };
        assert!(!in_use.is_nothing());
        assert_eq!(in_use.describe(), "at least 0 failed records");
    }
}
