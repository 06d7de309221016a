//! Turns: the right to act on an open record until its next look.

use std::time::Duration;

use super::{LookResult, Reconcile};
use crate::{
    clock::Timestamp,
    error::StageError,
    open_record::OpenRecord,
    ports::{Deployment, OpenRecords as _, Turn},
};

/// The maximum time between two looks at a record in progress, so that the loss of a payload that was only in the cache
/// is noticed within minutes.
pub const MAX_LOOK_INTERVAL: Duration = Duration::from_mins(5);

/// The time until reconcile looks again at a record for which this run had no start left. It sorts the record behind
/// the records that this run did not reach.
const POSTPONE_DELAY: Duration = Duration::from_mins(1);

impl<D: Deployment> Reconcile<D> {
    /// Takes the turn of a record without counting a start, and sets the usual next look. Returns `false` if another
    /// caller has changed the record.
    pub(super) async fn take_turn(&self, record: &OpenRecord, now: Timestamp) -> Result<bool, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        self.open_records.take_turn(record, Turn::until(look_at)).await
    }

    /// Postpones a record for which this run has no start left: takes its turn and looks again after one minute. The
    /// next run then reaches the records behind it, so a missing payload is noticed within minutes even behind a
    /// backlog.
    pub(super) async fn postpone(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        self.open_records.take_turn(record, Turn::until(now.after(POSTPONE_DELAY))).await?;
        Ok(LookResult::Postponed)
    }

    /// Returns the time of the next look at a record that was looked at `looks` times in this attempt. The time between
    /// two looks doubles, up to [`MAX_LOOK_INTERVAL`].
    pub(super) fn next_look(&self, looks: u32, now: Timestamp) -> Timestamp {
        let doubled = self.settings.first_look.saturating_mul(1 << looks.min(16));
        now.after(doubled.min(MAX_LOOK_INTERVAL))
    }
}
