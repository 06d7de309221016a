//! The survey: counts the open records, their ages, and the records that are due.

use super::{Reconcile, Report};
use crate::{
    clock::Timestamp,
    error::StageError,
    open_record::{IndexEntry, OpenKind},
    ports::{Deployment, OpenRecords as _},
};

impl<D: Deployment> Reconcile<D> {
    /// Counts the open records, and returns those that are due, ordered by the time of their next look.
    pub(super) async fn survey(
        &self,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<Vec<IndexEntry>, StageError> {
        let mut due = Vec::new();
        for kind in OpenKind::ALL {
            let listing = self.open_records.list(kind, self.settings.max_listed).await?;
            // The id contains the time when the record was received.
            let ages = listing.entries.iter().map(|entry| now.since(entry.id.received_at()).as_secs());
            let (count, oldest) = match kind {
                OpenKind::InProgress => (&mut report.open, &mut report.oldest_open_age_seconds),
                OpenKind::Failed => (&mut report.failed, &mut report.oldest_failed_age_seconds),
            };
            *count = listing.entries.len();
            // Records that only have markers may be older than those in the index.
            *oldest = ages.max().unwrap_or(0).max(*oldest);
            report.at_least |= listing.truncated;
            due.extend(listing.entries.into_iter().filter(|entry| entry.look_at <= now));
        }
        due.sort_unstable();
        report.due = due.len();
        Ok(due)
    }
}
