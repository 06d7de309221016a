//! The survey: counts the open records, their ages, and the records that are due.

use super::Reconcile;
use crate::{
    clock::Timestamp,
    error::StageError,
    open_record::{IndexEntry, IndexListing, OpenKind},
    ports::{Deployment, OpenRecords as _},
};

/// The open records that the index lists: their counts, and those that are due.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) in_progress: Count,
    pub(super) failed: Count,
    /// The records that are due, ordered by the time of their next look.
    pub(super) due: Vec<IndexEntry>,
}

/// The open records of one kind.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) records: usize,
    pub(super) oldest_age_seconds: u64,
    pub(super) over_ten_minutes: usize,
    pub(super) over_an_hour: usize,
    /// Whether there may be more records than were listed.
    pub(super) at_least: bool,
}

impl Count {
    fn of(listing: &IndexListing, now: Timestamp) -> Self {
        // The id contains the time when the record was received.
        let ages = || listing.entries.iter().map(|entry| now.since(entry.accepted_at()).as_secs());
        Self {
            records: listing.entries.len(),
            oldest_age_seconds: ages().max().unwrap_or(0),
            over_ten_minutes: ages().filter(|age| *age > 600).count(),
            over_an_hour: ages().filter(|age| *age > 3600).count(),
            at_least: listing.truncated,
        }
    }
}

impl<D: Deployment> Reconcile<D> {
    /// Counts the open records, and lists those that are due.
    pub(super) async fn survey(&self, now: Timestamp) -> Result<Survey, StageError> {
        let in_progress = self.open_records.list(OpenKind::InProgress, self.settings.max_listed).await?;
        let failed = self.open_records.list(OpenKind::Failed, self.settings.max_listed).await?;
        let entries = in_progress.entries.iter().chain(&failed.entries);
        let mut due: Vec<_> = entries.copied().filter(|entry| entry.look_at <= now).collect();
        due.sort_unstable();
        Ok(Survey { in_progress: Count::of(&in_progress, now), failed: Count::of(&failed, now), due })
    }
}
