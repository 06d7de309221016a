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

use super::Reconcile;
use crate::{
    attempt::Attempt,
    clock::{Clock as _, Timestamp},
    error::{ErrorKind, ErrorName, StageError},
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
    /// The marker was not tried: the time was up, or a call for another marker had a transient error.
    Postponed(Attempt),
    /// A transient error occurred.
    TransientError(Attempt),
    /// An error occurred that an operator must correct; the log has the cause.
    PermanentError(Attempt),
}

impl AdoptionResult {
    /// Returns the attempt if its marker was not adopted.
    fn left(&self) -> Option<Attempt> {
        match self {
            Self::Adopted => None,
            Self::Postponed(attempt) | Self::TransientError(attempt) | Self::PermanentError(attempt) => {
                Some(*attempt)
            }
        }
    }
}

/// The counts of the adoption in one run.
#[derive(Debug, Default)]
pub(super) struct Adoptions {
    /// The number of markers that were listed.
    pub(super) markers: usize,
    /// The age of the oldest record that has a marker, in seconds. The index does not list these records yet.
    pub(super) oldest_age_seconds: u64,
    pub(super) adopted: usize,
    /// The number of markers that an operator must look at.
    pub(super) stuck: usize,
    /// The number of transient errors.
    pub(super) errors: usize,
}

impl<D: Deployment> Reconcile<D> {
    /// Adopts markers until the time budget is used up, and removes the expiry of the payloads of the others.
    pub(super) async fn adopt_markers(&self, now: Timestamp) -> Adoptions {
        let attempts = match self.markers.list(self.settings.max_adopted).await {
            Ok(attempts) => attempts,
            Err(error) => {
                warn!(error.name = error.name.as_str(), %error, "cannot list the acceptance markers");
                return Adoptions { errors: 1, ..Adoptions::default() };
            }
        };
        let ages = attempts.iter().map(|attempt| now.since(attempt.record.received_at()).as_secs());
        let (markers, oldest_age_seconds) = (attempts.len(), ages.max().unwrap_or(0));
        let results = self.adopt_each(attempts, now).await;
        let count =
            |wanted: fn(&AdoptionResult) -> bool| results.iter().filter(|result| wanted(result)).count();
        let adoptions = Adoptions {
            markers,
            oldest_age_seconds,
            adopted: count(|result| matches!(result, AdoptionResult::Adopted)),
            stuck: count(|result| matches!(result, AdoptionResult::PermanentError(_))),
            errors: count(|result| matches!(result, AdoptionResult::TransientError(_))),
        };
        self.remove_payload_expiries(results.iter().filter_map(AdoptionResult::left)).await;
        adoptions
    }

    /// Adopts these markers concurrently. After the first transient error, the markers that have not begun are left for
    /// the next run, because the service would fail for them as well.
    async fn adopt_each(&self, attempts: Vec<Attempt>, now: Timestamp) -> Vec<AdoptionResult> {
        let is_unavailable = AtomicBool::new(false);
        let adoptions = stream::iter(attempts).map(async |attempt| {
            if is_unavailable.load(Ordering::Relaxed) || self.clock.now().since(now) >= BUDGET {
                return AdoptionResult::Postponed(attempt);
            }
            let Err(error) = self.adopt(attempt, now).await else { return AdoptionResult::Adopted };
            warn!(record.id = %attempt.record, error.name = error.name.as_str(), %error, "left an acceptance marker for the next run");
            // A marker of a newer release says nothing of the others.
            if error.name == ErrorName::NewerSchemaVersion {
                return AdoptionResult::TransientError(attempt);
            }
            if error.kind() == ErrorKind::Transient {
                is_unavailable.store(true, Ordering::Relaxed);
                return AdoptionResult::TransientError(attempt);
            }
            AdoptionResult::PermanentError(attempt)
        });
        adoptions.buffer_unordered(self.settings.concurrency).collect().await
    }

    /// Removes the expiry of the payloads of markers that cannot be adopted yet, in case ingest has not done so. A
    /// payload that was archived by ingest is not in the cache and stays as it is.
    async fn remove_payload_expiries(&self, attempts: impl Iterator<Item = Attempt>) {
        let kept = stream::iter(attempts)
            .map(Ok)
            .try_for_each_concurrent(self.settings.concurrency, async |attempt| {
                self.cache.persist(attempt.record).await.map(drop)
            });
        if let Err(error) = kept.await {
            warn!(error.name = error.name.as_str(), %error, "could not remove the expiry of the payloads of acceptance markers");
        }
    }

    async fn adopt(&self, attempt: Attempt, now: Timestamp) -> Result<(), StageError> {
        let Some(mut record) = self.markers.find(attempt).await? else { return Ok(()) };
        let id = attempt.record;
        // The table may have stored the acceptance although ingest got an error. If the record has been completed or has
        // failed since, it is open, or it was closed for good and a second acceptance would open it again.
        let state = self.record_table.states(&[id]).await?.remove(&id);
        if matches!(state, None | Some(ItemState::Received)) {
            record.look_at = now;
            // Ingest does not start a record that only has a marker, so there is no execution to wait for.
            record.starts = 0;
            self.open_records.accept(&record, None).await?;
            info!(record.id = %id, "adopted an acceptance marker");
        }
        self.markers.clear(attempt).await
    }
}
