//! Waits for the end of redriven records.

use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};

use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    ports::{ItemState, RecordTable},
    record_id::RecordId,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::Instant;

use crate::output::format_count;

/// The time between two looks at the record table.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long to wait: the longest delay of a redrive, and some minutes for its attempt. A redrive that the redrive function has put back (the
/// record is parked, or steps of its failure are still pending) never ends.
const LIMIT: Duration = Duration::from_mins(25);

/// How many records are asked about together.
const BATCH: usize = 100;

/// What became of redriven records.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ends {
    pub(super) completed: usize,
    /// The records whose next attempt has failed, too.
    pub(super) failed_again: Vec<String>,
    /// The records that a person has discarded meanwhile.
    pub(super) discarded: Vec<String>,
    /// The records that were at no end after 25 minutes.
    pub(super) still_waiting: Vec<String>,
}

impl Ends {
    /// Whether every record is complete.
    pub(super) fn are_good(&self) -> bool {
        [&self.failed_again, &self.discarded, &self.still_waiting].iter().all(|list| list.is_empty())
    }
}

/// Waits until each record is complete, is discarded, or has failed at a later attempt than the one that was redriven. A discard before
/// `began`, when the command began, is what the redrive has reversed. A record table that does not answer is asked again.
pub(super) async fn until_the_end(table: &impl RecordTable, redriven: &[Attempt], began: Timestamp) -> Ends {
    let mut waiting: BTreeMap<RecordId, u32> =
        redriven.iter().map(|attempt| (attempt.record, attempt.number())).collect();
    let bar = ProgressBar::new(waiting.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} records at their end, {elapsed}") {
        bar.set_style(style);
    }
    if !waiting.is_empty() && !std::io::stderr().is_terminal() {
        let count = format_count(waiting.len(), false, "redriven record", "redriven records");
        eprintln!("waiting for the end of {count}, for 25 minutes at most");
    }
    let (mut ends, waiting_since) = (Ends::default(), Instant::now());
    loop {
        let records: Vec<RecordId> = waiting.keys().copied().collect();
        // Those of a batch that is not answered are asked about again, and the others count.
        let mut states = BTreeMap::new();
        for batch in records.chunks(BATCH) {
            states.extend(table.states(batch).await.unwrap_or_default());
        }
        for (id, state) in states {
            match state {
                ItemState::Completed(_) => ends.completed += 1,
                ItemState::Failed { discarded: Some(noted), .. } if noted.discard.at >= began => {
                    ends.discarded.push(id.to_string());
                }
                ItemState::Failed { attempt, .. } if attempt > waiting[&id] => {
                    ends.failed_again.push(id.to_string());
                }
                ItemState::Failed { .. } | ItemState::Received => continue,
            }
            waiting.remove(&id);
            bar.inc(1);
        }
        if waiting.is_empty() || waiting_since.elapsed() > LIMIT {
            bar.finish_and_clear();
            ends.still_waiting = waiting.keys().map(RecordId::to_string).collect();
            return ends;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use custody_core::{
        dead_letter::FailureSummary,
        ports::Discard,
        testing::{contract, doubles::MemoryTable, samples},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_record_is_at_its_end_when_it_fails_at_a_later_attempt_and_not_before() {
        let table = MemoryTable::default();
        let message = samples::message(b"payload");
        let failure = contract::failure_of(&message);
        table.fail(&message, &failure).await.unwrap();
        let first = message.attempt();
        let id = first.record.to_string();
        let began = failure.failed_at.after(Duration::from_mins(10));
        let ends = until_the_end(&table, &[first], began).await;
        assert_eq!(
            ends,
            Ends { still_waiting: vec![id.clone()], ..Ends::default() },
            "the failure that was redriven is no end"
        );
        assert!(!ends.are_good());

        let discard = |at| Discard { by: "arn:x".to_owned(), at, reason: "withdrawn".to_owned() };
        assert!(table.discard(first, &discard(failure.failed_at)).await.unwrap());
        let ends = until_the_end(&table, &[first], began).await;
        assert_eq!(ends.still_waiting, std::slice::from_ref(&id), "the redrive reverses this discard");

        let later = FailureSummary { attempt: 2, ..failure };
        table.fail(&samples::redriven(&message), &later).await.unwrap();
        let ends = until_the_end(&table, &[first], began).await;
        assert_eq!(ends, Ends { failed_again: vec![id.clone()], ..Ends::default() });

        assert!(table.discard(first.next(), &discard(began)).await.unwrap());
        let ends = until_the_end(&table, &[first], began).await;
        assert_eq!(ends, Ends { discarded: vec![id], ..Ends::default() });
    }
}
