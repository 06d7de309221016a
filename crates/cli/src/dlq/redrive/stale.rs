//! Recognizes dead letters that nobody needs any more. SQS delivers a dead letter again after a redrive that was broken off, or that was
//! made while another reader hid it.

use std::collections::{BTreeMap, BTreeSet};

use custody_core::{
    attempt::Attempt,
    error::StageError,
    ports::{ItemState, OpenRecords, RecordTable},
    record_id::RecordId,
};
use futures_util::{StreamExt as _, stream};

/// How many open records are read at once.
const CONCURRENCY: usize = 32;

/// Why a dead letter is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stale {
    /// The record is complete.
    Complete,
    /// The record is at a later attempt, or has failed in one and been decided.
    LaterAttempt,
    /// A person has discarded the record, and nobody insists on another attempt.
    Discarded,
}

/// Returns those of the `attempts` whose dead letters are stale. Who `insists` redrives discarded records, too.
pub(super) async fn stale(
    open: &impl OpenRecords,
    table: &impl RecordTable,
    attempts: &[Attempt],
    insists: bool,
) -> Result<BTreeMap<Attempt, Stale>, StageError> {
    let records: BTreeSet<RecordId> = attempts.iter().map(|attempt| attempt.record).collect();
    let records: Vec<RecordId> = records.into_iter().collect();
    let states = table.states(&records).await?;
    // A record that cannot be read (of a newer release, or the table is away) does not stop the others: the redrive function ignores what is
    // stale.
    let reads = records.iter().map(|id| open.find(*id));
    let found: Vec<_> = stream::iter(reads).buffered(CONCURRENCY).collect().await;
    let found = found.into_iter().filter_map(|read| Some(read.ok()??.attempt()));
    let current: BTreeMap<RecordId, u32> = found.map(|attempt| (attempt.record, attempt.number())).collect();
    let why = |attempt: &Attempt| {
        let state = states.get(&attempt.record);
        if !insists && state.is_some_and(|state| state.discard_of(attempt.number()).is_some()) {
            return Some((*attempt, Stale::Discarded));
        }
        let failed = match state {
            Some(ItemState::Completed(_)) => return Some((*attempt, Stale::Complete)),
            Some(ItemState::Failed { attempt, .. }) => *attempt,
            Some(ItemState::Received) | None => 0,
        };
        let latest = failed.max(current.get(&attempt.record).copied().unwrap_or_default());
        (latest > attempt.number()).then_some((*attempt, Stale::LaterAttempt))
    };
    Ok(attempts.iter().filter_map(why).collect())
}

#[cfg(test)]
mod tests {
    use custody_core::{
        clock::Clock as _,
        open_record::{OpenRecord, OpenState},
        ports::{CompletionTimes, Discard},
        testing::{
            contract,
            doubles::{MemoryOpenRecords, MemoryTable},
            samples,
        },
    };

    use super::*;

    #[tokio::test]
    async fn a_dead_letter_is_stale_when_its_record_is_complete_or_at_a_later_attempt() {
        let (open, table) = (MemoryOpenRecords::default(), MemoryTable::default());
        let message = samples::message(b"payload");
        let first = message.attempt();
        let stale_at =
            async |attempt| stale(&open, &table, &[attempt], false).await.unwrap().remove(&attempt);
        assert_eq!(stale_at(first).await, None, "no store knows the record");
        open.accept(&samples::open_record(&message), None).await.unwrap();
        table.fail(&message, &contract::failure_of(&message)).await.unwrap();
        assert_eq!(stale_at(first).await, None, "its attempt has failed");

        let next = samples::redriven(&message);
        let record = samples::open_record(&message);
        let state = OpenState::Failed { failure: contract::failure_of(&message), pending_steps: Vec::new() };
        open.fail(&OpenRecord { state, ..record }).await.unwrap();
        open.redrive(&samples::open_record(&next)).await.unwrap();
        assert_eq!(stale_at(first).await, Some(Stale::LaterAttempt), "the next attempt is in progress");
        assert_eq!(stale_at(next.attempt()).await, None);

        open.close(next.attempt()).await.unwrap();
        table.fail(&next, &contract::failure_of(&next)).await.unwrap();
        assert_eq!(stale_at(first).await, Some(Stale::LaterAttempt), "the next attempt has failed");

        let now = samples::TestClock::default().now();
        let second = next.attempt();
        let discard = Discard { by: "arn:x".to_owned(), at: now, reason: "withdrawn".to_owned() };
        assert!(table.discard(second, &discard).await.unwrap());
        assert_eq!(stale_at(second).await, Some(Stale::Discarded), "the redrive function would ignore it");
        assert_eq!(stale(&open, &table, &[second], true).await.unwrap(), BTreeMap::new(), "--force");

        table.complete(&next, CompletionTimes { archived_at: now, completed_at: now }).await.unwrap();
        assert_eq!(stale_at(first).await, Some(Stale::Complete));
        assert_eq!(stale_at(next.attempt()).await, Some(Stale::Complete));
    }
}
