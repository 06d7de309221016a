//! Adoption: an acceptance that only a marker tells of becomes an open record.
//!
//! *Invariant:* nothing is started before the open record is there, and the marker goes last. Marker and acceptance carry the
//! same id and attempt, so an acceptance whose reply was lost is met again, not made twice.

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

/// For how long one run adopts markers, so that it leaves time for what else is due.
const BUDGET: Duration = Duration::from_secs(20);

/// What became of a marker.
enum Adoption {
    /// Its record is open.
    Done,
    /// There was no time for it, or the table is away.
    Left(Attempt),
    /// A service could not be had.
    Failed(Attempt),
    /// Nothing helps before a person has looked; the log tells why.
    Stuck(Attempt),
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
        // These records are in no index yet.
        let ages = attempts.iter().map(|attempt| now.since(attempt.record.received_at()).as_secs());
        report.oldest_open_age_seconds = ages.max().unwrap_or(0);
        let is_away = AtomicBool::new(false);
        let adoptions = stream::iter(attempts).map(async |attempt| {
            if is_away.load(Ordering::Relaxed) || self.clock.now().since(now) >= BUDGET {
                return Adoption::Left(attempt);
            }
            match self.adopt(attempt, now).await {
                Ok(()) => Adoption::Done,
                Err(error) => {
                    warn!(record.id = %attempt.record, error.name = error.name.as_str(), %error, "left an acceptance marker for the next run");
                    let is_transient = error.kind() == ErrorKind::Transient;
                    // The table is away still; it would refuse the rest as well.
                    is_away.fetch_or(is_transient, Ordering::Relaxed);
                    if is_transient { Adoption::Failed(attempt) } else { Adoption::Stuck(attempt) }
                }
            }
        });
        let adoptions: Vec<_> = adoptions.buffer_unordered(self.settings.concurrency).collect().await;
        let mut left = Vec::new();
        for adoption in adoptions {
            match adoption {
                Adoption::Done => report.adopted += 1,
                Adoption::Left(attempt) => left.push(attempt),
                Adoption::Failed(attempt) => {
                    report.errors += 1;
                    left.push(attempt);
                }
                Adoption::Stuck(attempt) => {
                    report.stuck += 1;
                    left.push(attempt);
                }
            }
        }
        self.keep_payloads(left).await;
    }

    /// Takes the expiry off the payloads of markers that cannot be adopted yet, in case that ingest has not. What was
    /// archived instead is not in the cache, and stays as it is.
    async fn keep_payloads(&self, attempts: Vec<Attempt>) {
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
