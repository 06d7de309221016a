//! Finds stuck records among acceptance markers and open records, without reading finished records.

use std::time::Duration;

use custody_core::{
    clock::Timestamp, open_record::OpenKind, ports::AcceptanceMarkers as _, record_id::RecordId,
};
use serde::Serialize;
use strum::VariantArray as _;

use super::{
    Options,
    compare::{self, StuckThreshold},
    findings::Findings,
};
use crate::{
    deployment::Deployment,
    output::{format_count, format_duration},
    pace::retry_transient,
    progress::Progress,
    survey::{self, OpenRecordIds, survey},
};

/// Number of items in one read of the record table: DynamoDB's limit.
const BATCH: usize = 100;

/// Counts of acceptance markers and open records.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    markers: usize,
    markers_at_least: bool,
    in_progress: usize,
    in_progress_at_least: bool,
    /// Number of failed records that are open.
    failed: usize,
    failed_at_least: bool,
    /// Number of failed records for which only a decision is pending.
    waiting_for_decision: usize,
    /// Time since the oldest open record was received.
    oldest_age_seconds: u64,
}

pub(super) async fn find(
    deployment: &Deployment,
    options: Options,
    now: Timestamp,
    progress: &Progress,
    findings: &mut Findings,
) -> anyhow::Result<Open> {
    let patience = StuckThreshold { now, stuck_after: options.stuck_after };
    let (open, markers) = (deployment.open_records()?, deployment.markers()?);
    progress.begin("acceptance markers");
    // Markers are listed before open records: a record that is adopted in between is then seen in both lists. In the
    // other order, it could be seen in neither.
    let marked = retry_transient(async || markers.list(options.limit.saturating_add(1)).await).await?;
    marked
        .iter()
        .filter_map(|marker| compare::marker(*marker, patience))
        .for_each(|found| findings.add(found));

    let mut seen = Open {
        markers: marked.len().min(options.limit),
        markers_at_least: marked.len() > options.limit,
        ..Open::default()
    };
    for &kind in OpenKind::VARIANTS {
        let OpenRecordIds { ids, at_least } =
            retry_transient(async || survey(&open, kind, options.limit).await).await?;
        let oldest = ids.first().map_or(0, |id| now.since(id.received_at()).as_secs());
        seen.oldest_age_seconds = seen.oldest_age_seconds.max(oldest);
        match kind {
            OpenKind::InProgress => (seen.in_progress, seen.in_progress_at_least) = (ids.len(), at_least),
            OpenKind::Failed => (seen.failed, seen.failed_at_least) = (ids.len(), at_least),
        }
        progress.begin(match kind {
            OpenKind::InProgress => "records in progress",
            OpenKind::Failed => "failed records",
        });
        // A record cannot be stuck for longer than it exists, so young records in progress are not read. Young failed
        // records are read, too, to count those that wait for a decision.
        let is_of_interest =
            |id: &RecordId| kind == OpenKind::Failed || patience.is_exceeded_since(id.received_at());
        let ids: Vec<_> = ids.into_iter().filter(is_of_interest).collect();
        for batch in ids.chunks(BATCH) {
            seen.waiting_for_decision += look_at(deployment, batch, kind, patience, findings).await?;
            progress.advance(batch.len());
        }
    }
    Ok(seen)
}

/// Compares open records with their items, and returns how many wait for a decision.
async fn look_at(
    deployment: &Deployment,
    ids: &[RecordId],
    kind: OpenKind,
    patience: StuckThreshold,
    findings: &mut Findings,
) -> anyhow::Result<usize> {
    let (open, index) = (deployment.open_records()?, deployment.index()?);
    // Open records are read before items: a record that is completed in between has been complete for a moment only,
    // and is not reported as not closed.
    let records = retry_transient(async || survey::read(&open, ids, kind).await).await?;
    let items = retry_transient(async || index.audit_items(ids).await).await?;
    let mut waiting = 0;
    for record in &records {
        match compare::open_record(record, items.get(&record.id()), patience) {
            compare::OpenRecordCheck::InTime => {}
            compare::OpenRecordCheck::WaitsForDecision => waiting += 1,
            compare::OpenRecordCheck::Stuck(finding) => findings.add(finding),
        }
    }
    Ok(waiting)
}

impl Open {
    /// Returns whether there are more markers or open records than were checked.
    pub(super) fn at_least(&self) -> bool {
        self.markers_at_least || self.in_progress_at_least || self.failed_at_least
    }

    pub(super) fn text(&self) -> String {
        let markers =
            format_count(self.markers, self.markers_at_least, "acceptance marker", "acceptance markers");
        let in_progress = format_count(self.in_progress, self.in_progress_at_least, "record", "records");
        let failed = format_count(self.failed, self.failed_at_least, "has", "have");
        let oldest = match self.oldest_age_seconds {
            0 => "none is older than a second".to_owned(),
            seconds => format!("the oldest is {} old", format_duration(Duration::from_secs(seconds))),
        };
        let more = if self.at_least() {
            "\nThere are more open records than were checked; a larger --limit checks more."
        } else {
            ""
        };
        format!(
            "{in_progress} in progress; {failed} failed, {} of them waiting for a decision (`custody failed`); {markers}; \
             {oldest}{more}",
            self.waiting_for_decision
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_marks_counts_that_stopped_at_a_limit() {
        let mut open = Open { in_progress: 3, failed: 1, waiting_for_decision: 1, ..Open::default() };
        assert_eq!(
            open.text(),
            "3 records in progress; 1 has failed, 1 of them waiting for a decision (`custody failed`); \
             0 acceptance markers; none is older than a second"
        );
        open.failed_at_least = true;
        assert!(open.at_least() && open.text().contains("at least 1 have failed"), "{}", open.text());
    }
}
