//! Makes the item of one record again, unless another part of the deployment does it or has done it.

use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    error::StageError,
    ports::{AcceptanceMarkers, CompletionTimes, ItemState, OpenRecords, PayloadArchive, RecordTable},
};

use super::evidence::Evidence;

/// Result for one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// The item was made, or would be, as `COMPLETED`.
    Completed,
    /// The item was made, or would be, as discarded.
    Discarded,
    /// The item needs nothing.
    Present,
    /// The record is open, so its workflow writes the item.
    Open,
    /// The record was discarded at this attempt or a later one, so its evidence describes it.
    LeftToEvidence,
    /// The item cannot be made, for this reason.
    Impossible(String),
}

/// Returns the result for a record whose newest manifest is of `attempt`, if its item or its evidence tells it.
pub(super) fn settled_before(
    state: Option<&ItemState>,
    attempt: Attempt,
    evidence: Option<&Evidence>,
) -> Option<Restored> {
    match state {
        Some(ItemState::Completed(_)) => Some(Restored::Present),
        _ if evidence.is_some_and(|evidence| evidence.attempt >= attempt) => Some(Restored::LeftToEvidence),
        Some(ItemState::Failed { attempt: failed, discarded: Some(_) }) if *failed >= attempt.number() => {
            Some(Restored::Present)
        }
        Some(ItemState::Failed { .. } | ItemState::Received) | None => None,
    }
}

/// The stores from which the item of a record is made again, and how it is done.
pub(super) struct Restorer<A, O, M, T> {
    pub(super) archive: A,
    pub(super) open: O,
    pub(super) markers: M,
    pub(super) table: T,
    /// The time that is noted in each item as the time of the rebuild.
    pub(super) now: Timestamp,
    pub(super) dry_run: bool,
}

impl<A: PayloadArchive, O: OpenRecords, M: AcceptanceMarkers, T: RecordTable> Restorer<A, O, M, T> {
    /// Makes the item of a record from the manifest of its newest attempt.
    ///
    /// A record that was archived, is not open and was not discarded is complete: a record is closed only when it is complete
    /// or discarded. The table has lost when it was completed and when the item was first stored, so both times become the time
    /// of archiving.
    pub(super) async fn completed(&self, attempt: Attempt) -> Result<Restored, StageError> {
        let id = attempt.record;
        if self.is_open(attempt).await? {
            return Ok(Restored::Open);
        }
        // The record may have been completed and closed since the caller's look at its item.
        match self.table.states(&[id]).await?.remove(&id) {
            Some(ItemState::Completed(_)) => return Ok(Restored::Present),
            // The item does not tell which attempt was discarded, and the discard may be younger than the evidence that was read.
            Some(ItemState::Failed { discarded: Some(_), .. }) => {
                return Ok(Restored::Impossible(format!(
                    "the item says that the record was discarded, and attempt {} was archived; run this again, and look at `custody trace {id}` \
                     if it says so again",
                    attempt.number()
                )));
            }
            Some(ItemState::Failed { attempt: failed, .. }) if failed >= attempt.number() => {
                return Ok(Restored::Impossible(format!(
                    "the item is FAILED at attempt {failed}, and the record is neither open nor discarded; `custody trace {id}` \
                     shows its executions"
                )));
            }
            Some(ItemState::Failed { .. } | ItemState::Received) | None => {}
        }
        let Some(manifest) = self.archive.manifest(attempt).await? else {
            return Ok(Restored::Impossible("the manifest was deleted meanwhile".to_owned()));
        };
        let promised = manifest.message.payload.sha256;
        match self.archive.find(&id.archive_key()).await? {
            None => {
                let why = "the archive has a manifest of the record, and not its payload";
                return Ok(Restored::Impossible(why.to_owned()));
            }
            Some(object) if object.sha256 != promised => {
                return Ok(Restored::Impossible(format!(
                    "the archived payload has SHA-256 {}, the manifest has {promised}",
                    object.sha256
                )));
            }
            Some(_) => {}
        }
        if self.dry_run {
            return Ok(Restored::Completed);
        }
        let at = manifest.archive.archived_at;
        let mut message = manifest.message;
        let stored = self.table.put_received(&message, at).await?;
        self.table.note_rebuilt(id, self.now).await?;
        message.storage_context.metadata_reference = Some(stored.reference);
        message.storage_context.persistence.metadata = true;
        self.table.complete(&message, CompletionTimes { archived_at: at, completed_at: at }).await?;
        Ok(Restored::Completed)
    }

    /// Makes the item of a discarded record from the evidence of the discard.
    pub(super) async fn discarded(&self, evidence: &Evidence) -> Result<Restored, StageError> {
        let (attempt, id) = (evidence.attempt, evidence.attempt.record);
        let is_final = |state: Option<ItemState>| {
            matches!(state, Some(ItemState::Completed(_) | ItemState::Failed { discarded: Some(_), .. }))
        };
        if is_final(self.table.states(&[id]).await?.remove(&id)) {
            return Ok(Restored::Present);
        }
        if self.is_open(attempt).await? {
            return Ok(Restored::Open);
        }
        if is_final(self.table.states(&[id]).await?.remove(&id)) {
            return Ok(Restored::Present);
        }
        if self.dry_run {
            return Ok(Restored::Discarded);
        }
        self.table.fail(&evidence.message, &evidence.dead_letter.failure).await?;
        self.table.note_rebuilt(id, self.now).await?;
        if self.table.discard(attempt, &evidence.discard).await? {
            return Ok(Restored::Discarded);
        }
        let why = format!("the item is at a later attempt than {}, which was discarded", attempt.number());
        Ok(Restored::Impossible(why))
    }

    /// Whether a record is open, or waits in a marker for its adoption. The stores are read in the order in which an acceptance
    /// moves through them.
    async fn is_open(&self, attempt: Attempt) -> Result<bool, StageError> {
        let marker = self.markers.find(Attempt::first(attempt.record)).await?;
        Ok(marker.is_some() || self.open.find(attempt.record).await?.is_some())
    }
}

#[cfg(test)]
mod tests;
