//! The redrives that people have asked for and that have not begun. SQS shows nobody the messages that it delays: it only counts them.
//! `custody dlq redrive` notes in the open record when each is due.

use std::time::Duration;

use custody_core::{
    clock::Timestamp,
    error::StageError,
    open_record::{OpenKind, OpenRecord},
    ports::OpenRecords,
    record_id::RecordId,
};

use crate::{
    output::{format_count, format_duration},
    survey::{self, survey},
};

/// How many failed records are looked through for redrives.
const MAX_READ: usize = 500;

/// How long a redrive may be due before it waits no more: SQS delivers a dead letter four times, every six minutes, and then moves it to the
/// dead-letter queue.
const LONGEST_WAIT: Duration = Duration::from_mins(30);

/// How many redrives a list shows.
const MAX_SHOWN: usize = 5;

/// A redrive that has not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaitingRedrive {
    pub(crate) due: Timestamp,
    pub(crate) id: RecordId,
}

/// Finds the redrives that wait, soonest first, among the oldest failed records.
pub(crate) async fn waiting(
    open: &impl OpenRecords,
    now: Timestamp,
) -> Result<Vec<WaitingRedrive>, StageError> {
    let failed = survey(open, OpenKind::Failed, MAX_READ).await?;
    let records = survey::read(open, &failed.ids, OpenKind::Failed).await?;
    Ok(of_records(&records, now))
}

/// Returns the redrives that these records wait for, soonest first.
pub(crate) fn of_records(records: &[OpenRecord], now: Timestamp) -> Vec<WaitingRedrive> {
    let noted = records.iter().filter_map(|record| Some((record.redrive_at?, record.id())));
    let noted = noted.filter(|(due, _)| now.since(*due) <= LONGEST_WAIT);
    let mut waiting: Vec<_> = noted.map(|(due, id)| WaitingRedrive { due, id }).collect();
    waiting.sort_unstable_by_key(|redrive| (redrive.due, redrive.id));
    waiting
}

/// Returns whether a redrive that was due at `redrive_at` may still begin.
pub(crate) fn waits(redrive_at: Option<Timestamp>, now: Timestamp) -> bool {
    redrive_at.is_some_and(|due| now.since(due) <= LONGEST_WAIT)
}

/// Says which redrives wait, for the end of a list. Empty if none does.
pub(crate) fn list(waiting: &[WaitingRedrive], now: Timestamp) -> String {
    if waiting.is_empty() {
        return String::new();
    }
    let count = format_count(waiting.len(), false, "record waits", "records wait");
    let mut lines = vec![format!("{count} for a redrive that was asked for:")];
    let shown = waiting.iter().take(MAX_SHOWN);
    lines.extend(shown.map(|redrive| format!("  {}  {}", redrive.id, due(redrive.due, now))));
    if waiting.len() > MAX_SHOWN {
        lines.push("  … (`custody failed` lists all)".to_owned());
    }
    lines.join("\n")
}

/// Says when a redrive is due.
pub(crate) fn due(due: Timestamp, now: Timestamp) -> String {
    let ago = now.since(due);
    if due > now {
        format!("redrive in {}", format_duration(due.since(now)))
    } else if ago <= LONGEST_WAIT {
        format!("redrive due {} ago", format_duration(ago))
    } else {
        format!("a decision (a redrive was due {} ago and was not begun)", format_duration(ago))
    }
}

/// Says how many redrives are on their queue; `None` if there are none, or if nobody knows.
pub(crate) fn count_text(redrives: Option<u64>) -> Option<String> {
    let count = usize::try_from(redrives.filter(|count| *count > 0)?).unwrap_or(usize::MAX);
    let waiting = format_count(count, false, "redrive waits", "redrives wait");
    Some(format!(
        "{waiting} on the redrive queue, for 15 minutes at most: the attempt begins after that. `redrive --now` does not wait."
    ))
}

#[cfg(test)]
mod tests {
    use custody_core::{
        open_record::OpenState,
        testing::{contract, doubles::MemoryOpenRecords, samples},
    };

    use super::*;

    #[tokio::test]
    async fn a_list_names_the_records_whose_redrive_waits_soonest_first() {
        let open = MemoryOpenRecords::default();
        let now = samples::record_id().received_at().after(Duration::from_hours(1));
        assert_eq!(list(&waiting(&open, now).await.unwrap(), now), "");
        let mut ids = Vec::new();
        for (minutes, due) in [(1, Some(240)), (2, None), (3, Some(70))] {
            let id = RecordId::mint(now.after(Duration::from_mins(minutes)));
            let record = samples::open_record(&samples::message_of(id, b"payload"));
            open.accept(&record, None).await.unwrap();
            let state = OpenState::Failed {
                failure: contract::failure_of(&record.message),
                pending_steps: Vec::new(),
            };
            open.fail(&OpenRecord { state, ..record.clone() }).await.unwrap();
            let due = due.map(|seconds| now.after(Duration::from_secs(seconds)));
            open.note_redrive(record.attempt(), due).await.unwrap();
            ids.push(id);
        }
        let waiting = waiting(&open, now).await.unwrap();
        let text = format!(
            "2 records wait for a redrive that was asked for:\n  {}  redrive in 1 min 10 s\n  {}  redrive in 4 min 0 s",
            ids[2], ids[0]
        );
        assert_eq!(list(&waiting, now), text);
        let later = now.after(Duration::from_secs(90));
        assert!(list(&waiting, later).contains("redrive due 20 s ago"));
        let much_later = now.after(Duration::from_hours(2));
        assert_eq!(super::waiting(&open, much_later).await.unwrap(), [], "SQS has given up");
        assert!(due(now, much_later).starts_with("a decision"));
        let many = vec![waiting[0]; 6];
        assert!(list(&many, now).ends_with("… (`custody failed` lists all)"));
    }
}
