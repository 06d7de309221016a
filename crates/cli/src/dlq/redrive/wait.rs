//! Waits for the end of redriven records.

use std::{collections::BTreeMap, time::Duration};

use custody_core::{
    attempt::Attempt,
    error::StageError,
    ports::{ItemState, RecordTable},
    record_id::RecordId,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// The time between two looks at the record table.
const INTERVAL: Duration = Duration::from_secs(2);
/// How many records one request to the record table reads.
const BATCH: usize = 100;

/// What became of redriven records.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ends {
    pub(super) completed: usize,
    /// The records whose next attempt has failed, too.
    pub(super) failed_again: Vec<String>,
}

/// Waits until each record is complete, or has failed at a later attempt than the one that was redriven.
pub(super) async fn until_the_end(
    table: &impl RecordTable,
    redriven: &[Attempt],
) -> Result<Ends, StageError> {
    let mut waiting: BTreeMap<RecordId, u32> =
        redriven.iter().map(|attempt| (attempt.record, attempt.number())).collect();
    let bar = ProgressBar::new(waiting.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} records at their end, {elapsed}") {
        bar.set_style(style);
    }
    let mut ends = Ends::default();
    loop {
        let records: Vec<RecordId> = waiting.keys().copied().collect();
        for batch in records.chunks(BATCH) {
            for (id, state) in table.states(batch).await? {
                match state {
                    ItemState::Completed(_) => ends.completed += 1,
                    ItemState::Failed { attempt, .. } if attempt > waiting[&id] => {
                        ends.failed_again.push(id.to_string());
                    }
                    ItemState::Failed { .. } | ItemState::Received => continue,
                }
                waiting.remove(&id);
                bar.inc(1);
            }
        }
        if waiting.is_empty() {
            bar.finish_and_clear();
            return Ok(ends);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, doubles::MemoryTable, samples};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_record_is_at_its_end_when_it_is_complete_or_fails_at_a_later_attempt() {
        let table = MemoryTable::default();
        let message = samples::message(b"payload");
        let failure = contract::failure_of(&message);
        table.fail(&message, &failure).await.unwrap();
        let first = message.attempt();
        let waiting = tokio::time::timeout(Duration::from_mins(1), until_the_end(&table, &[first])).await;
        assert!(waiting.is_err(), "the failure that was redriven is no end");
        let again = samples::redriven(&message);
        let later = custody_core::dead_letter::FailureSummary { attempt: 2, ..failure };
        table.fail(&again, &later).await.unwrap();
        let ends = until_the_end(&table, &[first]).await.unwrap();
        assert_eq!(ends, Ends { completed: 0, failed_again: vec![first.record.to_string()] });
    }
}
