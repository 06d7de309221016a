//! The work of ingest after the response. If the process dies during this work, reconcile starts the workflow later; no
//! accepted record is lost. The copy of a rejected request can be lost.

use serde_json::json;
use tracing::{error, warn};

use super::Ingest;
use crate::{
    clock::Timestamp,
    dead_letter::{DeadLetter, FailureSummary, StageFailure},
    envelope::OriginalEvent,
    error::{ErrorKind, StageError},
    open_record::OpenRecord,
    ports::{DeadLetters as _, Deployment, FailedStore as _, PayloadCache as _, Workflow as _},
    problem::{Problem, ProblemKind},
    receipt::Durability,
    record_id::RecordId,
    rejected_request::{self, RejectedRequest},
    stages::upload::CompletedUpload,
};

/// The work to do after a response was sent.
#[derive(Debug, Default)]
#[must_use = "a follow-up must be run"]
pub struct FollowUp {
    start: Option<Box<OpenRecord>>,
    persist: Option<RecordId>,
    unlink: Option<RecordId>,
    rejected: Option<Box<Rejected>>,
    completed: Option<Box<CompletedUpload>>,
}

/// A request that was answered with a problem.
#[derive(Debug)]
struct Rejected {
    event: OriginalEvent,
    request_id: Option<String>,
    problem: Problem,
    at: Timestamp,
}

impl FollowUp {
    /// Creates the follow-up of an acceptance: it starts the workflow and removes the expiry of the cached payload.
    pub(super) fn accepted(record: OpenRecord) -> Self {
        Self { start: Some(Box::new(record)), ..Self::default() }.and_persist()
    }

    /// Creates the follow-up of an acceptance that is only stored in a marker: it starts nothing, because reconcile
    /// must adopt the marker first.
    pub(super) fn marked(record: &OpenRecord) -> Self {
        let cached = record.durability != Durability::Archived;
        Self { persist: cached.then(|| record.id()), ..Self::default() }
    }

    /// Creates the follow-up of a payload by reference whose upload is completed.
    pub(super) fn completed(completed: CompletedUpload) -> Self {
        Self { completed: Some(Box::new(completed)), ..Self::default() }
    }

    /// Creates the follow-up of a request that was answered with a problem: it stores the request. Two kinds are not
    /// stored. A caller without the right to write must not make Custody store anything. A request whose key or caller could
    /// not be looked up (503) is sent again by its producer, and in an outage there are so many such requests that they would
    /// hide failed records on the dead-letter queue.
    pub(super) fn rejected(
        event: OriginalEvent,
        request_id: Option<String>,
        problem: Problem,
        at: Timestamp,
    ) -> Self {
        if matches!(
            problem.kind,
            ProblemKind::Forbidden
                | ProblemKind::AccessUnavailable
                | ProblemKind::KeysUnavailable
                | ProblemKind::ReferenceNotCopied
        ) {
            let error_name = problem.kind.error_name();
            warn!(request.id = request_id, error.name = error_name, "turned a request away");
            return Self::default();
        }
        let rejected = Rejected { event, request_id, problem, at };
        Self { rejected: Some(Box::new(rejected)), ..Self::default() }
    }

    /// Adds the removal of a cached payload that belongs to no accepted record.
    pub(super) fn and_unlink(self, id: Option<RecordId>) -> Self {
        Self { unlink: id, ..self }
    }

    fn and_persist(self) -> Self {
        let cached = self.start.as_ref().filter(|record| record.durability != Durability::Archived);
        Self { persist: cached.map(|record| record.id()), ..self }
    }
}

impl<D: Deployment> Ingest<D> {
    /// Does the work after the response. A failed effect is logged and not repeated here. Reconcile repeats a start and
    /// the removal of an expiry. A payload that was not unlinked expires. A rejected request that could not be stored
    /// is lost; its producer has the answer.
    pub async fn follow_up(&self, follow_up: FollowUp) {
        let FollowUp { start, persist, unlink, rejected, completed } = follow_up;
        if let Some(completed) = completed {
            self.transfers.follow_up(*completed).await;
        }
        if let Some(record) = start
            && let Err(error) = self.workflow.start(&record.message, record.starts).await
        {
            log_failed_effect(record.id(), &error, "left the workflow start to reconcile");
        }
        if let Some(id) = persist
            && let Err(error) = self.cache.persist(id).await
        {
            log_failed_effect(id, &error, "left the expiry of an accepted payload to reconcile");
        }
        if let Some(id) = unlink
            && let Err(error) = self.cache.unlink(id).await
        {
            log_failed_effect(id, &error, "left a payload without a record to its expiry");
        }
        if let Some(rejected) = rejected {
            self.store_rejected_request(*rejected).await;
        }
    }

    /// Stores a request that was not accepted, and reports it: on the queue of rejected requests if the producer must
    /// change it, on the dead-letter queue if no store could take it.
    async fn store_rejected_request(&self, rejected: Rejected) {
        let Rejected { event, request_id, problem, at: rejected_at } = rejected;
        let kind = rejected_request::kind_of(&problem);
        let request = RejectedRequest::new(&String::from_utf8_lossy(&event.to_bytes()), rejected_at);
        let failure = StageFailure {
            stage: "ingest".to_owned(),
            error_name: problem.kind.error_name().to_owned(),
            cause: problem.detail.clone(),
            tries: 1,
        };
        let mut summary = FailureSummary::new(vec![failure], 1, rejected_at, None);
        summary.kind = kind;
        let key = request.key(request_id.as_deref(), kind);
        let preserved = self.failed_store.preserve(&key, request.into_content()).await;
        let mut remarks = Vec::new();
        match preserved {
            Ok(reference) => summary.payload_reference = Some(reference),
            Err(error) => remarks.push(format!("the request itself could not be preserved ({error})")),
        }
        let known = json!({"requestId": request_id, "rejectedAt": rejected_at});
        let dead_letter = DeadLetter { unfinished: remarks, ..DeadLetter::of_request(known, summary) };
        let queue = if kind == ErrorKind::Invalid { &self.rejected_requests } else { &self.dead_letters };
        let reported = queue.send(&dead_letter).await;
        let (error_name, path, offset) = (problem.kind.error_name(), problem.path, problem.offset);
        match reported {
            Ok(()) => {
                warn!(request.id = request_id, error.name = error_name, path, offset, "rejected request");
            }
            Err(error) => error!(
                request.id = request_id,
                error.name = error_name,
                path,
                offset,
                queue.error = %error,
                "rejected request, and could not report it on a queue"
            ),
        }
    }
}

fn log_failed_effect(id: RecordId, error: &StageError, what: &'static str) {
    warn!(record.id = %id, error.name = error.name.as_str(), %error, "{what}");
}
