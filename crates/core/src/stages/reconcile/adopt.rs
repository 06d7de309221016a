//! Adoption: makes an open record from an acceptance that is only stored in a marker.
//!
//! *Invariant:* nothing is started before the open record is stored, and the marker is removed last. The marker and the
//! acceptance have the same id and attempt, so an acceptance whose reply was lost is recognized and not made twice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tracing::{info, warn};

use super::{Reconcile, Report};
use crate::{
    attempt::Attempt,
    clock::{Clock as _, Timestamp},
    error::{ErrorKind, StageError},
    ports::{
        AcceptanceMarkers as _, Deployment, ItemState, OpenRecords as _, PayloadCache as _, RecordTable as _,
    },
};

/// How long one run adopts markers, so that time is left for other work that is due.
const BUDGET: Duration = Duration::from_secs(20);

/// The result of handling a marker.
enum AdoptionResult {
    /// The marker needs no further work: its record is open, or has been open before.
    Adopted,
    /// The marker was left for the next run, because the time was up or a service was not available.
    Postponed(Attempt),
    /// A transient error occurred.
    TransientError(Attempt),
    /// An error occurred that an operator must correct; the log has the cause.
    PermanentError(Attempt),
}

impl<D: Deployment> Reconcile<D> {
    pub(super) async fn adopt_markers(&self, now: Timestamp, report: &mut Report) {
        let attempts = match self.markers.list(self.settings.max_adopted).await {
            Ok(attempts) => attempts,
            Err(error) => {
                warn!(error.name = error.name.as_str(), %error, "cannot list the acceptance markers");
                report.errors += 1;
                return;
            }
        };
        report.markers = attempts.len();
        // The index does not list these records yet.
        let ages = attempts.iter().map(|attempt| now.since(attempt.record.received_at()).as_secs());
        report.oldest_open_age_seconds = ages.max().unwrap_or(0);
        let is_unavailable = AtomicBool::new(false);
        let adoptions = stream::iter(attempts).map(async |attempt| {
            if is_unavailable.load(Ordering::Relaxed) || self.clock.now().since(now) >= BUDGET {
                return AdoptionResult::Postponed(attempt);
            }
            match self.adopt(attempt, now).await {
                Ok(()) => AdoptionResult::Adopted,
                Err(error) => {
                    warn!(record.id = %attempt.record, error.name = error.name.as_str(), %error, "left an acceptance marker for the next run");
                    let is_transient = error.kind() == ErrorKind::Transient;
                    // The service is not available and would also fail for the other markers.
                    is_unavailable.fetch_or(is_transient, Ordering::Relaxed);
                    if is_transient { AdoptionResult::TransientError(attempt) } else { AdoptionResult::PermanentError(attempt) }
                }
            }
        });
        let adoptions: Vec<_> = adoptions.buffer_unordered(self.settings.concurrency).collect().await;
        let mut left = Vec::new();
        for adoption in adoptions {
            match adoption {
                AdoptionResult::Adopted => report.adopted += 1,
                AdoptionResult::Postponed(attempt) => left.push(attempt),
                AdoptionResult::TransientError(attempt) => {
                    report.errors += 1;
                    left.push(attempt);
                }
                AdoptionResult::PermanentError(attempt) => {
                    report.stuck += 1;
                    left.push(attempt);
                }
            }
        }
        self.remove_payload_expiries(left).await;
    }

    /// Removes the expiry of the payloads of markers that cannot be adopted yet, in case ingest has not done so. A
    /// payload that was archived by ingest is not in the cache and stays as it is.
    async fn remove_payload_expiries(&self, attempts: Vec<Attempt>) {
        let kept = stream::iter(attempts)
            .map(Ok)
            .try_for_each_concurrent(self.settings.concurrency, async |attempt| {
                self.cache.persist(attempt.record).await.map(drop)
            });
        if let Err(error) = kept.await {
            warn!(error.name = error.name.as_str(), %error, "could not take the expiry off the payloads of acceptance markers");
        }
    }

    async fn adopt(&self, attempt: Attempt, now: Timestamp) -> Result<(), StageError> {
        let Some(mut record) = self.markers.find(attempt).await? else { return Ok(()) };
        let id = attempt.record;
        let is_settled = match self.record_table.states(&[id]).await?.remove(&id) {
            // The acceptance had reached the table in spite of its error, and everything since has been done: the
            // record is closed, or will be closed.
            Some(ItemState::Completed(_)) => true,
            Some(ItemState::Failed { attempt: failed, discarded }) => discarded || failed >= attempt.number(),
            Some(ItemState::Received) | None => false,
        };
        if !is_settled {
            record.look_at = now;
            // Ingest does not start a record that only has a marker, so there is no execution to wait for.
            record.starts = 0;
            self.open_records.accept(&record, None).await?;
            info!(record.id = %id, "adopted an acceptance marker");
        }
        self.markers.clear(attempt).await
    }
}
