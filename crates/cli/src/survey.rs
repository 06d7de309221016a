//! Lists the ids of open records from the index, up to a limit, and reads the open records themselves.

use custody_core::{
    error::StageError,
    open_record::{OpenKind, OpenRecord},
    ports::OpenRecords,
    record_id::RecordId,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Maximum number of open records of one kind that are counted. A command that shows one page does not read an index of
/// ten million entries to its end; it reports the count as "at least".
pub(crate) const MAX_COUNTED: usize = 100_000;

/// Number of open records that are read concurrently.
const CONCURRENCY: usize = 32;

/// Ids of the open records of one kind, as the index lists them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OpenRecordIds {
    /// Ids of the open records, oldest first.
    pub(crate) ids: Vec<RecordId>,
    /// Whether there may be more open records than `ids`.
    pub(crate) at_least: bool,
}

/// Lists the ids of the open records of one kind, at most `limit`.
pub(crate) async fn survey(
    open: &impl OpenRecords,
    kind: OpenKind,
    limit: usize,
) -> Result<OpenRecordIds, StageError> {
    let listing = open.list(kind, limit).await?;
    // An id begins with the time at which the record was received, so the order of the ids is the order of age.
    let mut ids: Vec<_> = listing.entries.into_iter().map(|entry| entry.id).collect();
    ids.sort_unstable();
    Ok(OpenRecordIds { ids, at_least: listing.truncated })
}

/// Reads the open records with these ids, in order. It leaves out records that are closed or of another kind by now:
/// the index may be late, so the table decides.
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
    async fn a_count_above_the_limit_is_a_minimum_and_closed_records_are_left_out() {
        let open = MemoryOpenRecords::default();
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
        assert_eq!(counted, OpenRecordIds { ids: all.clone(), at_least: false });
        assert!(survey(&open, OpenKind::InProgress, 2).await.unwrap().at_least);
        assert_eq!(survey(&open, OpenKind::Failed, 2).await.unwrap(), OpenRecordIds::default());

        open.close(ids[1].1).await.unwrap();
        let read = read(&open, &all, OpenKind::InProgress).await.unwrap();
        assert_eq!(read.iter().map(OpenRecord::id).collect::<Vec<_>>(), [all[0], all[2]]);
    }
}
