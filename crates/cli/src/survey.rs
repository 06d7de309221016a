//! What the open-record table lists, counted as far as a command may count, and the open records behind it.

use custody_core::{
    error::StageError,
    open_record::{OpenKind, OpenRecord},
    ports::OpenRecords,
    record_id::RecordId,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Up to how many open records of a kind are counted. An index of ten million is not read to the end to show a page of it:
/// its count becomes "at least".
pub(crate) const COUNTED: usize = 100_000;

/// How many open records are read at once.
const CONCURRENCY: usize = 32;

/// The open records of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Their ids, oldest first.
    pub(crate) ids: Vec<RecordId>,
    /// Whether there are more than these.
    pub(crate) at_least: bool,
}

/// Counts the open records of one kind, up to a limit.
pub(crate) async fn survey(
    open: &impl OpenRecords,
    kind: OpenKind,
    limit: usize,
) -> Result<Survey, StageError> {
    let listing = open.list(kind, limit).await?;
    // Ids begin with the time of acceptance.
    let mut ids: Vec<_> = listing.entries.into_iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    Ok(Survey { ids, at_least: listing.truncated })
}

/// The open records of these ids that are still of this kind, in order: the index is a hint, and the table has the word.
pub(crate) async fn read(
    open: &impl OpenRecords,
    ids: &[RecordId],
    kind: OpenKind,
) -> Result<Vec<OpenRecord>, StageError> {
    let reads = ids.iter().map(|id| open.find(*id));
    let found: Vec<_> = stream::iter(reads).buffered(CONCURRENCY).try_collect().await?;
    Ok(found.into_iter().flatten().filter(|record| record.kind() == kind).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use custody_core::{
        clock::Clock as _,
        testing::{doubles::MemoryOpenRecords, samples},
    };

    use super::*;

    #[tokio::test]
    async fn what_is_beyond_the_limit_makes_the_count_a_minimum_and_what_was_closed_is_left_out() {
        let memory = MemoryOpenRecords::default();
        let open = &memory;
        let now = samples::TestClock::default().now();
        let mut ids = Vec::new();
        for age in [5, 1, 3] {
            let id = RecordId::mint(now.after(Duration::from_mins(10 - age)));
            let record = samples::open_record(&samples::message_of(id, b"payload"));
            open.accept(&record, None).await.unwrap();
            ids.push((id, record.attempt()));
        }
        ids.sort_unstable();
        let all: Vec<_> = ids.iter().map(|(id, _)| *id).collect();
        let counted = survey(&open, OpenKind::InProgress, 3).await.unwrap();
        assert_eq!(counted, Survey { ids: all.clone(), at_least: false });
        assert!(survey(&open, OpenKind::InProgress, 2).await.unwrap().at_least);
        assert_eq!(survey(&open, OpenKind::Failed, 2).await.unwrap(), Survey::default());

        open.close(ids[1].1).await.unwrap();
        let read = read(&open, &all, OpenKind::InProgress).await.unwrap();
        assert_eq!(read.iter().map(OpenRecord::id).collect::<Vec<_>>(), [all[0], all[2]]);
    }
}
