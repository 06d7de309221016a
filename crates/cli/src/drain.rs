//! `custody drain`: waits until the cache holds no payload that a record still needs, so that the cache can be replaced.

use std::time::Duration;

use clap::Args;
use custody_core::{
    clock::{Clock as _, SystemClock},
    open_record::{FailureStep, OpenKind, OpenRecord, OpenState},
    ports::AcceptanceMarkers as _,
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
    /// How long to wait; `0s` looks once.
    #[arg(long, default_value = "15min", value_parser = parse_duration, value_name = "TIME")]
    wait: Duration,
}

/// Reconcile works once a minute, so there is nothing new to see more often.
const PAUSE: Duration = Duration::from_secs(5);

/// What keeps the cache from being replaced.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct InUse {
    /// Records in progress whose attempt began with its payload in the cache.
    in_progress: usize,
    /// Failed records whose payload is not removed from the cache yet.
    failed: usize,
    /// Acceptance markers: their payloads may be in the cache.
    markers: usize,
    /// Whether there may be more of them.
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
        let parts = parts.into_iter().filter(|(count, ..)| *count > 0 || self.at_least);
        parts
            .map(|(count, one, many)| format_count(count, self.at_least, one, many))
            .collect::<Vec<_>>()
            .join(", ")
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
    let deadline = SystemClock.now().after(wait);
    let mut said = String::new();
    loop {
        let in_use = look(deployment).await?;
        if in_use.is_nothing() {
            output.print(&in_use, |_| {
                println!("The cache holds nothing that a record needs. Deploy the change of the cache now, and then CacheAdmission=open.");
            })?;
            return Ok(CommandOutcome::Complete);
        }
        let now = SystemClock.now();
        if now >= deadline {
            output.print(&in_use, |in_use| {
                println!(
                    "The cache is still needed: {}. `custody open` and `custody failed` list them.",
                    in_use.describe()
                );
            })?;
            return Ok(CommandOutcome::Partial);
        }
        let progress = in_use.describe();
        if !output.json && said != progress {
            println!("{progress}; waiting up to {}", format_duration(deadline.since(now)));
            said = progress;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Counts what is in the cache. Markers are listed first: a record that is adopted in between is then seen in both lists.
async fn look(deployment: &Deployment) -> anyhow::Result<InUse> {
    const PAGE_OF_MARKERS: usize = 1000;
    let open = deployment.open_records()?;
    let markers = deployment.markers()?.list(PAGE_OF_MARKERS).await?.len();
    let mut in_use = InUse { markers, at_least: markers == PAGE_OF_MARKERS, ..InUse::default() };
    for kind in [OpenKind::InProgress, OpenKind::Failed] {
        let known = survey(&open, kind, MAX_COUNTED).await?;
        in_use.at_least |= known.at_least;
        let records = survey::read(&open, &known.ids, kind).await?;
        let count = records.iter().filter(|record| needs_the_cache(record)).count();
        match kind {
            OpenKind::InProgress => in_use.in_progress = count,
            OpenKind::Failed => in_use.failed = count,
        }
    }
    Ok(in_use)
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};

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

    #[test]
    fn what_is_left_is_counted_in_words() {
        let in_use = InUse { in_progress: 1, failed: 2, ..InUse::default() };
        assert_eq!(in_use.describe(), "1 record in progress, 2 failed records");
        assert!(!in_use.is_nothing());
        let many = InUse { markers: 1000, at_least: true, ..InUse::default() };
        assert!(many.describe().ends_with("at least 1000 acceptance markers"), "{}", many.describe());
        assert!(!InUse { at_least: true, ..InUse::default() }.is_nothing(), "unknown is not nothing");
    }
}
