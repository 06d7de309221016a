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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{record_id::RecordId, testing::samples};

    #[test]
    fn records_are_counted_by_their_ages() {
        let accepted = samples::record_id().received_at();
        let now = accepted.after(Duration::from_hours(2));
        let entry = |age: u64| {
            let at = accepted.after(Duration::from_secs(7200 - age));
            IndexEntry { look_at: now, id: RecordId::mint(at), accepted_later_at: None }
        };
        let entries = [5, 600, 601, 3600, 3601, 7000].map(entry).to_vec();
        let count = Count::of(&IndexListing { entries, truncated: true }, now);
        assert_eq!((count.records, count.oldest_age_seconds, count.at_least), (6, 7000, true));
        assert_eq!((count.over_ten_minutes, count.over_an_hour), (4, 2), "a limit itself is not over it");
        let none = Count::of(&IndexListing::default(), now);
        assert_eq!((none.records, none.oldest_age_seconds, none.at_least), (0, 0, false));
    }
}
