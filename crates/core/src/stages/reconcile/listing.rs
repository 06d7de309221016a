//! What reconcile is asked for: to work, by its schedule, or to tell, by an operator. The cache is in a private network, so
//! operators see what is pending through this function.

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Noted, Reconcile, Report};
use crate::{
    clock::{Clock, Timestamp},
    error::StageError,
    ports::{FailureHandler, PayloadCache, PendingMarkers, PendingRuns, RecordTable, Workflow},
    record_id::RecordId,
};

/// An invocation. Anything that is no question is the schedule's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Request {
    /// `{"list": 100}`: the oldest pending runs, up to so many.
    List {
        /// How many.
        list: usize,
    },
    /// `{"find": "<messageID>"}`: the pending runs of one record, and its payload in the cache.
    Find {
        /// The record.
        find: RecordId,
    },
    /// Work through what is pending.
    Work {},
}

/// An answer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To a question.
    Listing(Listing),
    /// To the schedule.
    Report(Report),
}

/// What is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// How many runs are pending in all.
    pub total: usize,
    /// The runs, oldest first.
    pub pending: Vec<PendingEntry>,
    /// How many of the two stores could not be asked.
    pub errors: usize,
    /// The size of the payload in the cache; only where one record was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_size_bytes: Option<u64>,
}

/// A pending run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingEntry {
    /// The record.
    #[serde(rename = "messageID")]
    pub message_id: RecordId,
    /// The number of the run.
    pub attempt: u32,
    /// Since when.
    pub since: Timestamp,
    /// How long, in seconds.
    pub age_seconds: u64,
    /// Whether the cache knows it.
    pub cached: bool,
    /// Whether a marker says so.
    pub marked: bool,
}

impl<C, M, T, W, H, K> Reconcile<C, M, T, W, H, K>
where
    C: PayloadCache + PendingRuns,
    M: PendingMarkers + PendingRuns,
    T: RecordTable,
    W: Workflow,
    H: FailureHandler,
    K: Clock,
{
    /// Answers an invocation.
    pub async fn answer(&self, request: Request) -> Result<Answer, StageError> {
        match request {
            Request::List { list } => self.list(list).await.map(Answer::Listing),
            Request::Find { find } => self.find(find).await.map(Answer::Listing),
            Request::Work {} => self.run().await.map(Answer::Report),
        }
    }

    async fn list(&self, limit: usize) -> Result<Listing, StageError> {
        let (noted, errors) = self.noted().await?;
        let mut noted: Vec<_> = noted.into_values().collect();
        noted.sort_by_key(|noted| (noted.since, noted.run));
        let now = self.clock.now();
        let pending = noted.iter().take(limit).map(|noted| PendingEntry::new(*noted, now)).collect();
        Ok(Listing { total: noted.len(), pending, errors, cached_size_bytes: None })
    }

    async fn find(&self, id: RecordId) -> Result<Listing, StageError> {
        let (noted, mut errors) = self.noted().await?;
        let now = self.clock.now();
        let pending = noted.values().filter(|noted| noted.run.record == id);
        let cached = self.cache.payload(id).await.unwrap_or_else(|error| {
            warn!(record.id = %id, error.name = error.name.as_str(), %error, "cannot see what is cached");
            errors = errors.max(1);
            None
        });
        Ok(Listing {
            total: noted.len(),
            pending: pending.map(|noted| PendingEntry::new(*noted, now)).collect(),
            cached_size_bytes: cached.map(|payload| payload.bytes.len() as u64),
            errors,
        })
    }
}

impl PendingEntry {
    fn new(noted: Noted, now: Timestamp) -> Self {
        Self {
            message_id: noted.run.record,
            attempt: noted.run.attempt(),
            since: noted.since,
            age_seconds: now.since(noted.since).as_secs(),
            cached: noted.in_cache,
            marked: noted.in_markers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_no_question_is_work() {
        let read = |text| serde_json::from_str::<Request>(text).unwrap();
        assert_eq!(
            read(include_str!("../../../../../events/reconcile/list.json")),
            Request::List { list: 100 }
        );
        assert!(matches!(
            read(include_str!("../../../../../events/reconcile/find.json")),
            Request::Find { .. }
        ));
        for text in ["{}", include_str!("../../../../../events/reconcile/schedule.json")] {
            assert_eq!(read(text), Request::Work {}, "{text}");
        }
    }
}
