//! Discards an attempt: notes the discard in the record's item, and makes the open record due, which reconcile then closes.

use custody_core::{
    attempt::Attempt,
    error::{ErrorName, StageError},
    open_record::OpenState,
    ports::{Discard, ItemState, OpenRecords, RecordTable},
};
use strum::IntoStaticStr;

/// Result of a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum DiscardResult {
    /// The item reports the discard. Reconcile announces it and closes the record, after it has done the pending steps.
    Discarded,
    /// The record is complete, is closed as discarded, or is at a later attempt: there is nothing to decide.
    NothingToDecide,
    /// The dead letter is of a request that never became a record, or is not Custody's.
    NoRecord,
}

/// What was decided about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) result: DiscardResult,
    /// The discard that was noted before, by this person or another one. It stays; `None` if this discard is the first.
    pub(super) earlier: Option<Discard>,
}

impl From<DiscardResult> for Decision {
    fn from(result: DiscardResult) -> Self {
        Self { result, earlier: None }
    }
}

/// Notes the discard in the record's item, and makes the open record due at `discard.at`, so that reconcile's next run unlinks
/// its payload, announces the discard and closes the record.
///
/// The record stays open until then: a record that was closed here would never be announced if the operator's computer
/// stopped on the next line. A discard that is noted already stays, and the answer is `Discarded` again: the first
/// command may have died before it stored its decision, and `custody rebuild` believes only a stored one. A record with pending
/// steps has its own next look. `Err`: the record still waits for a decision.
pub(super) async fn decide(
    open: &impl OpenRecords,
    table: &impl RecordTable,
    attempt: Attempt,
    discard: &Discard,
) -> Result<Decision, StageError> {
    let id = attempt.record;
    let current = open.find(id).await?;
    let has_no_pending_step = match &current {
        Some(current) if current.attempt() > attempt => return Ok(DiscardResult::NothingToDecide.into()),
        Some(current) if current.attempt() < attempt => {
            return Err(refused(attempt, "the record is open at an earlier attempt"));
        }
        Some(current) => match &current.state {
            OpenState::Failed { pending_steps, .. } => pending_steps.is_empty(),
            OpenState::InProgress => return Err(refused(attempt, "the attempt has not failed")),
        },
        // A record that is closed is complete or discarded.
        None => false,
    };
    if current.is_none() {
        return match table.states(&[id]).await?.remove(&id) {
            Some(ItemState::Completed(_)) => Ok(DiscardResult::NothingToDecide.into()),
            Some(ItemState::Failed { discarded: Some(noted), .. }) => {
                Ok(Decision { result: DiscardResult::NothingToDecide, earlier: Some(noted.discard) })
            }
            Some(ItemState::Failed { attempt: failed, .. }) if failed > attempt.number() => {
                Ok(DiscardResult::NothingToDecide.into())
            }
            Some(ItemState::Failed { .. }) => note(table, attempt, discard).await,
            // No store has a record that could be discarded, so the caller only deletes the dead letter.
            Some(ItemState::Received) | None => Ok(DiscardResult::NoRecord.into()),
        };
    }
    let decision = note(table, attempt, discard).await?;
    if has_no_pending_step {
        open.set_pending_steps(attempt, &[], discard.at).await?;
    }
    Ok(decision)
}

async fn note(table: &impl RecordTable, attempt: Attempt, discard: &Discard) -> Result<Decision, StageError> {
    if table.discard(attempt, discard).await? {
        return Ok(DiscardResult::Discarded.into());
    }
    let id = attempt.record;
    match table.states(&[id]).await?.remove(&id) {
        // Another execution has completed the record; reconcile announces and closes it.
        Some(ItemState::Completed(_)) => Ok(DiscardResult::NothingToDecide.into()),
        Some(ItemState::Failed { attempt: failed, .. }) if failed > attempt.number() => {
            Ok(DiscardResult::NothingToDecide.into())
        }
        Some(ItemState::Failed { discarded: Some(noted), .. }) => {
            // The reply to this discard may have been lost, so the SDK sent it again.
            let earlier = Some(noted.discard).filter(|earlier| earlier != discard);
            Ok(Decision { result: DiscardResult::Discarded, earlier })
        }
        _ => {
            let text = "the item does not report the failure yet; reconcile has it written within minutes";
            Err(refused(attempt, text))
        }
    }
}

fn refused(attempt: Attempt, why: &str) -> StageError {
    StageError::new(ErrorName::InvalidInput, format!("discard attempt {attempt}: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use custody_core::{
        clock::{Clock as _, Timestamp},
        message::InternalMessage,
        open_record::{FailureStep, OpenRecord},
        ports::CompletionTimes,
        testing::{
            contract,
            doubles::{MemoryOpenRecords, MemoryTable},
            samples,
        },
    };

    use super::*;

    fn now() -> Timestamp {
        samples::TestClock::default().now()
    }

    struct Stores {
        open: MemoryOpenRecords,
        table: MemoryTable,
        message: InternalMessage,
    }

    /// Stores a record whose first attempt has failed, and what is pending for it. Its item is `FAILED` unless the item is
    /// pending.
    async fn failed(pending_steps: &[FailureStep]) -> Stores {
        let (open, table) = (MemoryOpenRecords::default(), MemoryTable::default());
        let message = samples::message(b"payload");
        let record = samples::open_record(&message);
        open.accept(&record, None).await.unwrap();
        table.put_received(&message, record.started_at).await.unwrap();
        let failure = contract::failure_of(&message);
        if !pending_steps.contains(&FailureStep::Item) {
            table.fail(&message, &failure).await.unwrap();
        }
        let state = OpenState::Failed { failure, pending_steps: pending_steps.to_vec() };
        open.fail(&OpenRecord { state, ..record }).await.unwrap();
        Stores { open, table, message }
    }

    impl Stores {
        async fn discard(&self, attempt: Attempt) -> Result<DiscardResult, StageError> {
            Ok(self.discard_because(attempt, "withdrawn").await?.result)
        }

        async fn discard_because(&self, attempt: Attempt, reason: &str) -> Result<Decision, StageError> {
            let discard = Discard { by: "arn:x".to_owned(), at: now(), reason: reason.to_owned() };
            decide(&self.open, &self.table, attempt, &discard).await
        }

        fn is_due(&self) -> bool {
            self.open.get(self.message.message_id).unwrap().look_at <= now()
        }

        fn is_open(&self) -> bool {
            self.open.get(self.message.message_id).is_some()
        }

        fn discarded(&self) -> Option<u32> {
            self.table.item(self.message.message_id).unwrap().discarded
        }
    }

    #[tokio::test]
    async fn a_discard_is_noted_in_the_item_and_the_record_is_due() {
        let stores = failed(&[]).await;
        let attempt = stores.message.attempt();
        assert_eq!(stores.discard(attempt).await.unwrap(), DiscardResult::Discarded);
        assert_eq!((stores.is_due(), stores.discarded()), (true, Some(1)));
        // The command broke off before it made the record due, and is repeated.
        stores.open.set_pending_steps(attempt, &[], now().after(Duration::from_hours(6))).await.unwrap();
        assert_eq!(
            stores.discard(attempt).await.unwrap(),
            DiscardResult::Discarded,
            "and its decision is stored"
        );
        assert!(stores.is_due());
        assert_eq!(
            stores.discard_because(attempt, "withdrawn").await.unwrap().earlier,
            None,
            "it is the same discard"
        );
        let again = stores.discard_because(attempt, "a test record").await.unwrap();
        assert_eq!(again.result, DiscardResult::Discarded);
        assert_eq!(again.earlier.unwrap().reason, "withdrawn", "the first discard stays");
        stores.open.close(attempt).await.unwrap();
        let copy = stores.discard_because(attempt, "a copy of the dead letter").await.unwrap();
        assert_eq!(copy.result, DiscardResult::NothingToDecide);
        assert_eq!(copy.earlier.unwrap().reason, "withdrawn");
    }

    #[tokio::test]
    async fn a_discarded_record_with_a_pending_step_is_not_made_due() {
        let stores = failed(&[FailureStep::Unlink]).await;
        assert_eq!(stores.discard(stores.message.attempt()).await.unwrap(), DiscardResult::Discarded);
        assert_eq!((stores.is_due(), stores.discarded()), (false, Some(1)));
        let record = stores.open.get(stores.message.message_id).unwrap();
        assert!(
            matches!(record.state, OpenState::Failed { pending_steps, .. } if pending_steps == [FailureStep::Unlink])
        );
    }

    #[tokio::test]
    async fn a_discard_is_refused_until_the_item_reports_the_failure() {
        let stores = failed(&[FailureStep::Item]).await;
        stores.discard(stores.message.attempt()).await.unwrap_err();
        assert_eq!((stores.is_open(), stores.discarded()), (true, None));
    }

    #[tokio::test]
    async fn a_later_attempt_and_one_in_progress_are_not_discarded() {
        let stores = failed(&[]).await;
        let next = samples::open_record(&samples::redriven(&stores.message));
        stores.open.redrive(&next).await.unwrap();
        assert_eq!(stores.discard(stores.message.attempt()).await.unwrap(), DiscardResult::NothingToDecide);
        stores.discard(next.attempt()).await.unwrap_err();
        stores.discard(next.attempt().next()).await.unwrap_err();
        assert_eq!((stores.is_open(), stores.discarded()), (true, None));
    }

    #[tokio::test]
    async fn a_record_that_was_completed_meanwhile_is_not_discarded_and_stays_open() {
        let stores = failed(&[]).await;
        let now = samples::TestClock::default().now();
        let times = CompletionTimes { archived_at: now, completed_at: now };
        stores.table.complete(&stores.message, times).await.unwrap();
        assert_eq!(stores.discard(stores.message.attempt()).await.unwrap(), DiscardResult::NothingToDecide);
        assert!(stores.is_open());
    }
}
