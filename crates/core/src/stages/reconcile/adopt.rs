//! Adoption: an acceptance that only a marker tells of becomes an open record.
//!
//! *Invariant:* nothing is started before the open record is there, and the marker goes last. Marker and acceptance carry the
//! same id and attempt, so an acceptance whose reply was lost is met again, not made twice.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tracing::{info, warn};

use super::{Reconcile, Report};
use crate::{
    attempt::Attempt,
    clock::Timestamp,
    error::StageError,
    ports::{
        AcceptanceMarkers as _, Deployment, ItemState, OpenRecords as _, PayloadCache as _, RecordTable as _,
    },
};

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
        for (number, attempt) in attempts.iter().enumerate() {
            match self.adopt(*attempt, now).await {
                Ok(()) => report.adopted += 1,
                Err(error) => {
                    warn!(record.id = %attempt.record, error.name = error.name.as_str(), %error, "left an acceptance marker for the next run");
                    report.errors += 1;
                    // The table is away still; it would refuse the rest as well.
                    self.keep_payloads(&attempts[number..]).await;
                    return;
                }
            }
        }
    }

    /// Takes the expiry off the payloads of markers that cannot be adopted yet, in case that ingest has not. What was
    /// archived instead is not in the cache, and stays as it is.
    async fn keep_payloads(&self, attempts: &[Attempt]) {
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
        let is_settled = match self.table.states(&[id]).await?.remove(&id) {
            // The acceptance had reached the table after all, and everything since has been done: the record is closed, or
            // is due to be.
            Some(ItemState::Completed(_)) => true,
            Some(ItemState::Failed { attempt: failed, discarded }) => discarded || failed >= attempt.number(),
            Some(ItemState::Received) | None => false,
        };
        if !is_settled {
            record.look_at = now;
            // Ingest starts nothing that only a marker tells of: there is no execution to wait for.
            record.starts = 0;
            self.open.accept(&record, None).await?;
            info!(record.id = %id, "adopted an acceptance marker");
        }
        self.markers.clear(attempt).await
    }
}
