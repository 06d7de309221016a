//! Closes complete records and discarded records.

use tracing::info;

use super::{LookResult, Reconcile};
use crate::{
    clock::Timestamp,
    error::StageError,
    notification::Notification,
    open_record::{OpenRecord, OpenState},
    ports::{CompletedItem, Deployment, NotedDiscard, Notifier as _, OpenRecords as _, PayloadCache as _},
};

impl<D: Deployment> Reconcile<D> {
    /// Removes the payload of a complete record from the cache, announces the record and closes it.
    pub(super) async fn announce_and_close(
        &self,
        record: &OpenRecord,
        item: &CompletedItem,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        if !self.take_turn(record, now).await? {
            return Ok(LookResult::NotDue);
        }
        self.cache.unlink(record.id()).await?;
        let Some(record) = self.attempt_to_announce(record, now).await? else {
            return Ok(LookResult::NotDue);
        };
        for notification in Notification::of_completed(&self.event_source, &record.message, item) {
            self.topic.publish(&notification).await?;
        }
        self.open_records.close(record.attempt()).await?;
        info!(record.id = %record.id(), "announced and closed a completed record");
        Ok(LookResult::Closed)
    }

    /// Returns the open record whose attempt is announced as completed; `None` if another caller has changed the
    /// record. If the current attempt has failed, this function first opens the next attempt, and that attempt is
    /// announced: a failed attempt must not be announced as completed, because its message has the location of the
    /// payload at the time of the failure, and the workflow may have announced the attempt with other content.
    async fn attempt_to_announce(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<Option<OpenRecord>, StageError> {
        let OpenState::Failed { failure, .. } = &record.state else { return Ok(Some(record.clone())) };
        let message = record.message.redriven(failure, now);
        let look_at = now.after(self.settings.first_look);
        let next = OpenRecord::begin(message, record.durability, record.key, now, look_at);
        let current = self.open_records.redrive(&next).await?;
        Ok(current.filter(|current| current.attempt() == next.attempt()))
    }

    /// Closes a record that an operator has discarded, after its payload was removed from the cache and the discard was
    /// announced. If the function dies before the close, the next look announces the same content again.
    pub(super) async fn announce_discard_and_close(
        &self,
        record: &OpenRecord,
        noted: &NotedDiscard,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        if !self.take_turn(record, now).await? {
            return Ok(LookResult::NotDue);
        }
        self.cache.unlink(record.id()).await?;
        self.topic.publish(&Notification::discarded(&self.event_source, &record.message, noted)).await?;
        self.open_records.close(record.attempt()).await?;
        info!(record.id = %record.id(), "announced and closed a discarded record");
        Ok(LookResult::Closed)
    }
}
