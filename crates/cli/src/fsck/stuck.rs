//! What is stuck, by acceptance markers and open records: no scan of anything that is finished.

use std::time::Duration;

use custody_core::{
    clock::Timestamp, open_record::OpenKind, ports::AcceptanceMarkers as _, record_id::RecordId,
};
use serde::Serialize;

use super::{
    Options, Progress,
    compare::{self, Patience},
    findings::Findings,
    pace::patiently,
};
use crate::{
    deployment::Deployment,
    output::{counted, human},
    survey::{self, Survey, survey},
};

/// How many items the record table is asked for at once, its limit.
const BATCH: usize = 100;

/// What is open.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    /// How many acceptance markers there are.
    markers: usize,
    markers_at_least: bool,
    /// How many records are in progress.
    in_progress: usize,
    in_progress_at_least: bool,
    /// How many records have failed and are not decided.
    failed: usize,
    failed_at_least: bool,
    /// How many of these are owed nothing but a decision.
    waiting_for_decision: usize,
    /// The time since the oldest open record was accepted.
    oldest_age_seconds: u64,
}

pub(super) async fn find(
    deployment: &Deployment,
    options: Options,
    now: Timestamp,
    progress: &Progress,
    findings: &mut Findings,
) -> anyhow::Result<Open> {
    let patience = Patience { now, stuck_after: options.stuck_after };
    let (open, markers) = (deployment.open_records()?, deployment.markers()?);
    progress.begin("acceptance markers");
    // Markers first: what is adopted meanwhile is then seen in both places, and not in neither.
    let marked = patiently(async || markers.list(options.limit.saturating_add(1)).await).await?;
    marked
        .iter()
        .filter_map(|marker| compare::marker(*marker, patience))
        .for_each(|found| findings.add(found));

    let mut seen = Open {
        markers: marked.len().min(options.limit),
        markers_at_least: marked.len() > options.limit,
        ..Open::default()
    };
    for kind in OpenKind::ALL {
        let Survey { ids, at_least } = patiently(async || survey(&open, kind, options.limit).await).await?;
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
        // A record cannot be stuck for longer than it exists. Young failed records are read to count those that wait.
        let is_of_interest = |id: &RecordId| kind == OpenKind::Failed || patience.is_over(id.received_at());
        let ids: Vec<_> = ids.into_iter().filter(is_of_interest).collect();
        for batch in ids.chunks(BATCH) {
            seen.waiting_for_decision += look_at(deployment, batch, kind, patience, findings).await?;
            progress.advance(batch.len());
        }
    }
    Ok(seen)
}

/// Compares open records with their items; how many wait for a decision.
async fn look_at(
    deployment: &Deployment,
    ids: &[RecordId],
    kind: OpenKind,
    patience: Patience,
    findings: &mut Findings,
) -> anyhow::Result<usize> {
    let (open, index) = (deployment.open_records()?, deployment.index()?);
    // Open records first: what is completed in between is complete just now, and not for long.
    let records = patiently(async || survey::read(&open, ids, kind).await).await?;
    let items = patiently(async || index.audit_items(ids).await).await?;
    let mut waiting = 0;
    for record in &records {
        match compare::open_record(record, items.get(&record.id()), patience) {
            compare::Progress::Moving => {}
            compare::Progress::WaitsForDecision => waiting += 1,
            compare::Progress::Stuck(finding) => findings.add(finding),
        }
    }
    Ok(waiting)
}

impl Open {
    /// Whether there are more open records than were looked at.
    pub(super) fn at_least(&self) -> bool {
        self.markers_at_least || self.in_progress_at_least || self.failed_at_least
    }

    pub(super) fn text(&self) -> String {
        let markers = counted(self.markers, self.markers_at_least, "acceptance marker", "acceptance markers");
        let in_progress = counted(self.in_progress, self.in_progress_at_least, "record", "records");
        let failed = counted(self.failed, self.failed_at_least, "has", "have");
        let oldest = human(Duration::from_secs(self.oldest_age_seconds));
        let more = if self.at_least() {
            "\nThere are more open records than were looked at; --limit looks at more."
        } else {
            ""
        };
        format!(
            "{in_progress} in progress; {failed} failed, {} of them waiting for a decision (`custody failed`); {markers}; \
             the oldest is {oldest} old{more}",
            self.waiting_for_decision
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_honest_about_what_was_not_looked_at() {
        let mut open = Open { in_progress: 3, failed: 1, waiting_for_decision: 1, ..Open::default() };
        assert_eq!(
            open.text(),
            "3 records in progress; 1 has failed, 1 of them waiting for a decision (`custody failed`); \
             0 acceptance markers; the oldest is 0 s old"
        );
        open.failed_at_least = true;
        assert!(open.at_least() && open.text().contains("at least 1 have failed"), "{}", open.text());
    }
}
