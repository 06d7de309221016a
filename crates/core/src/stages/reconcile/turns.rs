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

/// How long after this run reconcile looks again at a record for which no start was left. The record is then behind
/// those that were not reached.
const POSTPONE_DELAY: Duration = Duration::from_mins(1);

impl<D: Deployment> Reconcile<D> {
    /// Takes the turn of a record, without counting a start.
    pub(super) async fn take_turn(&self, record: &OpenRecord, now: Timestamp) -> Result<bool, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        self.open_records.take_turn(record, Turn::until(look_at)).await
    }

    /// Moves the next look at a record for which this run has no start left, so that the records behind it are looked
    /// at. A missing payload must be noticed within minutes, also behind a backlog.
    pub(super) async fn postpone(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        self.open_records.take_turn(record, Turn::until(now.after(POSTPONE_DELAY))).await?;
        Ok(LookResult::Postponed)
    }

    /// Returns when a record in progress is looked at after `looks` looks. The time between looks doubles, up to a
    /// limit.
    pub(super) fn next_look(&self, looks: u32, now: Timestamp) -> Timestamp {
        let doubled = self.settings.first_look.saturating_mul(1 << looks.min(16));
        now.after(doubled.min(MAX_LOOK_INTERVAL))
    }
}
