//! What discarding an attempt does to its record.

use custody_core::{
    attempt::Attempt,
    error::{ErrorName, StageError},
    open_record::OpenState,
    ports::{Discard, ItemState, OpenRecords, RecordTable},
};

/// What became of a discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The item tells of the discard, and the record is closed, or is closed by reconcile once it has done what is owed.
    Discarded,
    /// The record is complete, was discarded before, or is at a later attempt: there is nothing to decide.
    Settled,
    /// The dead letter is of a request that never became a record, or is not Custody's.
    NoRecord,
}

/// Notes the discard in the record's item, and closes the open record of the attempt if that is failed.
///
/// Only a discard that the item tells of closes a record: else nothing would remember the decision. Whoever closes has
/// unlinked the payload first, so a record that is still owed anything is left to reconcile, which does what is owed and
/// closes what is discarded. `Err`: the record is undecided still.
pub(super) async fn decide(
    open: &impl OpenRecords,
    table: &impl RecordTable,
    attempt: Attempt,
    discard: &Discard,
) -> Result<Decision, StageError> {
    let id = attempt.record;
    let current = open.find(id).await?;
    let owes_nothing = match &current {
        Some(current) if current.attempt() > attempt => return Ok(Decision::Settled),
        Some(current) if current.attempt() < attempt => {
            return Err(refused(attempt, "the record is open at an earlier attempt"));
        }
        Some(current) => match &current.state {
            OpenState::Failed { owed, .. } => owed.is_empty(),
            OpenState::InProgress => return Err(refused(attempt, "the attempt has not failed")),
        },
        // A record that is closed is complete or discarded.
        None => false,
    };
    if current.is_none() {
        return match table.states(&[id]).await?.remove(&id) {
            Some(ItemState::Completed(_) | ItemState::Failed { discarded: true, .. }) => {
                Ok(Decision::Settled)
            }
            Some(ItemState::Failed { attempt: failed, .. }) if failed > attempt.number() => {
                Ok(Decision::Settled)
            }
            Some(ItemState::Failed { .. }) => note(table, attempt, discard).await,
            // Nothing knows of a record that could be discarded: its dead letter alone is.
            Some(ItemState::Received) | None => Ok(Decision::NoRecord),
        };
    }
    let decision = note(table, attempt, discard).await?;
    if decision == Decision::Discarded && owes_nothing {
        open.close(attempt).await?;
    }
    Ok(decision)
}

async fn note(table: &impl RecordTable, attempt: Attempt, discard: &Discard) -> Result<Decision, StageError> {
    if table.discard(attempt, discard).await? {
        return Ok(Decision::Discarded);
    }
    let id = attempt.record;
    match table.states(&[id]).await?.remove(&id) {
        // Another execution has completed the record; reconcile announces and closes it.
        Some(ItemState::Completed(_)) => Ok(Decision::Settled),
        Some(ItemState::Failed { attempt: failed, .. }) if failed > attempt.number() => Ok(Decision::Settled),
        _ => {
            let text = "the item does not tell of the failure yet; reconcile writes it within minutes";
            Err(refused(attempt, text))
        }
    }
}

fn refused(attempt: Attempt, why: &str) -> StageError {
    StageError::new(ErrorName::InvalidInput, format!("discard attempt {attempt}: {why}"))
}

#[cfg(test)]
mod tests {
    use custody_core::{
        clock::Clock as _,
        message::InternalMessage,
        open_record::{FailureDuty, OpenRecord},
        ports::CompletionTimes,
        testing::{
            contract,
            doubles::{MemoryOpenRecords, MemoryTable},
            samples,
        },
    };

    use super::*;

    struct Stores {
        open: MemoryOpenRecords,
        table: MemoryTable,
        message: InternalMessage,
    }

    /// A record whose first attempt has failed, with what it is owed; its item tells so where the item is not owed.
    async fn failed(owed: &[FailureDuty]) -> Stores {
        let (open, table) = (MemoryOpenRecords::default(), MemoryTable::default());
        let message = samples::message(b"payload");
        let record = samples::open_record(&message);
        (&open).accept(&record, None).await.unwrap();
        (&table).put_received(&message, record.started_at).await.unwrap();
        let failure = contract::failure_of(&message);
        if !owed.contains(&FailureDuty::Item) {
            (&table).fail(&message, &failure).await.unwrap();
        }
        let state = OpenState::Failed { failure, owed: owed.to_vec() };
        (&open).fail(&OpenRecord { state, ..record }).await.unwrap();
        Stores { open, table, message }
    }

    impl Stores {
        async fn discard(&self, attempt: Attempt) -> Result<Decision, StageError> {
            let at = samples::TestClock::default().now();
            let discard = Discard { by: "arn:x".to_owned(), at, reason: "withdrawn".to_owned() };
            decide(&&self.open, &&self.table, attempt, &discard).await
        }

        fn is_open(&self) -> bool {
            self.open.get(self.message.message_id).is_some()
        }

        fn discarded(&self) -> Option<u32> {
            self.table.item(self.message.message_id).unwrap().discarded
        }
    }

    #[tokio::test]
    async fn a_discard_is_noted_in_the_item_and_closes_the_record() {
        let stores = failed(&[]).await;
        let attempt = stores.message.attempt();
        assert_eq!(stores.discard(attempt).await.unwrap(), Decision::Discarded);
        assert_eq!((stores.is_open(), stores.discarded()), (false, Some(1)));
        assert_eq!(stores.discard(attempt).await.unwrap(), Decision::Settled, "a copy of the dead letter");
    }

    #[tokio::test]
    async fn a_record_that_is_owed_something_is_closed_by_reconcile_and_not_here() {
        let stores = failed(&[FailureDuty::Unlink]).await;
        assert_eq!(stores.discard(stores.message.attempt()).await.unwrap(), Decision::Discarded);
        assert_eq!((stores.is_open(), stores.discarded()), (true, Some(1)));
    }

    #[tokio::test]
    async fn a_discard_that_no_item_would_tell_of_is_refused() {
        let stores = failed(&[FailureDuty::Item]).await;
        stores.discard(stores.message.attempt()).await.unwrap_err();
        assert_eq!((stores.is_open(), stores.discarded()), (true, None));
    }

    #[tokio::test]
    async fn a_later_attempt_and_one_in_progress_are_not_discarded() {
        let stores = failed(&[]).await;
        let next = samples::open_record(&samples::redriven(&stores.message));
        (&stores.open).redrive(&next).await.unwrap();
        assert_eq!(stores.discard(stores.message.attempt()).await.unwrap(), Decision::Settled);
        stores.discard(next.attempt()).await.unwrap_err();
        stores.discard(next.attempt().next()).await.unwrap_err();
        assert_eq!((stores.is_open(), stores.discarded()), (true, None));
    }

    #[tokio::test]
    async fn what_was_completed_meanwhile_stays_complete_and_open_until_it_is_announced() {
        let stores = failed(&[]).await;
        let now = samples::TestClock::default().now();
        let times = CompletionTimes { archived_at: now, completed_at: now };
        (&stores.table).complete(&stores.message, times).await.unwrap();
        assert_eq!(stores.discard(stores.message.attempt()).await.unwrap(), Decision::Settled);
        assert!(stores.is_open());
    }
}
