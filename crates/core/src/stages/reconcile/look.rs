//! One look of reconcile at one open record.

use tracing::error;

use super::{LookResult, Reconcile, budget::Budget};
use crate::{
    clock::Clock as _,
    error::{ErrorKind, ErrorName, StageError},
    open_record::{FailureStep, OpenState},
    ports::{Deployment, ItemState, OpenRecords as _},
    record_id::RecordId,
};

/// What the record table reports about a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum ItemLookup<'a> {
    /// The state of the record's item; `None` if it has no item.
    Answered(Option<&'a ItemState>),
    /// The table could not be asked.
    Unavailable,
}

impl<D: Deployment> Reconcile<D> {
    /// Looks at a record that the index lists as due, and does its pending work.
    pub(super) async fn look(&self, id: RecordId, item: ItemLookup<'_>, budget: &Budget) -> LookResult {
        if budget.is_over(self.clock.now()) {
            return LookResult::Postponed;
        }
        self.do_pending_work(id, item, budget).await.unwrap_or_else(|error| {
            if error.name == ErrorName::WorkflowUnavailable {
                budget.note_failed_start();
            }
            error!(record.id = %id, error.name = error.name.as_str(), %error, "could not reconcile record");
            if error.kind() == ErrorKind::Transient { LookResult::Postponed } else { LookResult::Stuck }
        })
    }

    async fn do_pending_work(
        &self,
        id: RecordId,
        item: ItemLookup<'_>,
        budget: &Budget,
    ) -> Result<LookResult, StageError> {
        let now = self.clock.now();
        // The index is a hint: the record may be closed, or another caller may have taken its turn.
        let Some(record) = self.open_records.find(id).await?.filter(|record| record.look_at <= now) else {
            return Ok(LookResult::NotDue);
        };
        self.renew_claim(&record, now).await;
        self.remove_payload_expiry(&record).await;
        let ItemLookup::Answered(item) = item else { return Ok(LookResult::Postponed) };
        let number = record.attempt().number();
        match (item, &record.state) {
            (Some(ItemState::Completed(item)), _) => self.announce_and_close(&record, item, now).await,
            // The failure function does the pending steps. It finds the failure in the open record and does not use the
            // name and the cause given here. A discarded record is included: its subscribers are still told that it
            // failed.
            (_, OpenState::Failed { pending_steps, .. }) if !pending_steps.is_empty() => {
                self.invoke_failure_function(&record, now, ErrorName::WorkflowIncomplete, "").await
            }
            (Some(ItemState::Failed { discarded: Some(noted), attempt }), _) if *attempt >= number => {
                self.announce_discard_and_close(&record, noted, now).await
            }
            (_, OpenState::Failed { failure, .. }) => {
                // The failure stage has written the item. If the table has lost it since, nobody could find or discard the record.
                if matches!(item, None | Some(ItemState::Received)) {
                    let steps = [FailureStep::Item];
                    self.open_records.set_pending_steps(record.attempt(), &steps, record.look_at).await?;
                    return self
                        .invoke_failure_function(&record, now, ErrorName::WorkflowIncomplete, "")
                        .await;
                }
                self.redrive_automatically(&record, failure, budget, now).await
            }
            (_, OpenState::InProgress) => self.start_unless_missing(&record, budget, now).await,
        }
    }
}
