//! One look at one open record.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tracing::{error, info, warn};

use super::{Looked, Reconcile, Settings};
use crate::{
    clock::{Clock as _, Timestamp},
    dead_letter::StageFailure,
    error::{ErrorKind, ErrorName, StageError},
    idempotency::CLAIM_LIFE,
    notification::Notification,
    open_record::{OpenRecord, OpenState},
    payload_search::is_missing,
    ports::{
        CompletedItem, Deployment, FailureHandler as _, IdempotencyClaims as _, ItemState, Notifier as _,
        OpenRecords as _, PayloadCache as _, Start, Turn, Workflow as _,
    },
    receipt::Durability,
    record_id::RecordId,
    stages::{failure::FailedRecord, redrive},
};

/// When a record that this run has no start left for is looked at again, behind those that were not reached.
const NEXT_RUN: Duration = Duration::from_mins(1);

/// After how many failed starts in one run the workflow is left in peace until the next.
const MAX_FAILED_STARTS: usize = 20;

/// How many executions an attempt has had at least before the workflow counts as unable to finish the record.
const MIN_STARTS: u32 = 3;

/// What one run of reconcile may still use.
#[derive(Debug)]
pub(in crate::stages) struct Budget {
    began: Timestamp,
    settings: Settings,
    starts: AtomicUsize,
    failed_starts: AtomicUsize,
}

impl Budget {
    pub(super) fn new(began: Timestamp, settings: Settings) -> Self {
        Self { began, settings, starts: AtomicUsize::new(0), failed_starts: AtomicUsize::new(0) }
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        now.distance(self.began) >= self.settings.budget
    }

    /// Takes one start out of the budget, where there is one.
    pub(in crate::stages) fn take_start(&self) -> bool {
        self.failed_starts.load(Ordering::Relaxed) < MAX_FAILED_STARTS
            && self.starts.fetch_add(1, Ordering::Relaxed) < self.settings.max_starts
    }
}

/// What the record table says of a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// The state of its item, where it has one.
    Known(Option<&'a ItemState>),
    /// The table could not be asked.
    Unknown,
}

impl<D: Deployment> Reconcile<D> {
    /// Looks at a record that the index lists as due, and does what it is owed.
    pub(super) async fn look(&self, id: RecordId, item: Item<'_>, budget: &Budget) -> Looked {
        if budget.is_over(self.clock.now()) {
            return Looked::Postponed;
        }
        self.help(id, item, budget).await.unwrap_or_else(|error| {
            if error.name == ErrorName::WorkflowUnavailable {
                budget.failed_starts.fetch_add(1, Ordering::Relaxed);
            }
            error!(record.id = %id, error.name = error.name.as_str(), %error, "could not reconcile record");
            if error.kind() == ErrorKind::Transient { Looked::Postponed } else { Looked::Stuck }
        })
    }

    async fn help(&self, id: RecordId, item: Item<'_>, budget: &Budget) -> Result<Looked, StageError> {
        let now = self.clock.now();
        // The index is a hint: the record may be closed, or somebody may have had its turn.
        let Some(record) = self.open.find(id).await?.filter(|record| record.look_at <= now) else {
            return Ok(Looked::NotDue);
        };
        self.renew_claim(&record, now).await;
        self.keep_payload(&record).await;
        let Item::Known(item) = item else { return Ok(Looked::Postponed) };
        let number = record.attempt().number();
        match (item, &record.state) {
            (Some(ItemState::Completed(item)), _) => self.finish(&record, item, now).await,
            // Also of a record that was discarded meanwhile: its subscribers are told that it has failed.
            (_, OpenState::Failed { owed, .. }) if !owed.is_empty() => {
                self.have_failure_handled(&record, now, ErrorName::WorkflowIncomplete, "").await
            }
            (Some(ItemState::Failed { discarded: true, attempt }), _) if *attempt >= number => {
                self.close(&record, now).await
            }
            (_, OpenState::Failed { failure, .. }) => {
                redrive::automatically(self, &record, failure, budget, now).await
            }
            (_, OpenState::InProgress) => self.bring_on(&record, budget, now).await,
        }
    }

    /// Takes the turn, without a start.
    async fn take_turn(&self, record: &OpenRecord, now: Timestamp) -> Result<bool, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        self.open.take_turn(record, Turn { look_at, start: None, is_missing: false }).await
    }

    /// Leaves a record for which this run has no start left, so that those behind it are looked at: whether their payloads are
    /// there must be seen within minutes.
    pub(in crate::stages) async fn postpone(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<Looked, StageError> {
        let turn = Turn { look_at: now.after(NEXT_RUN), start: None, is_missing: false };
        self.open.take_turn(record, turn).await?;
        Ok(Looked::Postponed)
    }

    /// Announces a record that is complete, and closes it.
    async fn finish(
        &self,
        record: &OpenRecord,
        item: &CompletedItem,
        now: Timestamp,
    ) -> Result<Looked, StageError> {
        if !self.take_turn(record, now).await? {
            return Ok(Looked::NotDue);
        }
        self.cache.unlink(record.id()).await?;
        let Some(record) = self.to_be_announced(record, now).await? else { return Ok(Looked::NotDue) };
        for notification in Notification::of_completed(&self.event_source, &record.message, item) {
            self.topic.publish(&notification).await?;
        }
        self.open.close(record.attempt()).await?;
        info!(record.id = %record.id(), "announced and closed a completed record");
        Ok(Looked::Closed)
    }

    /// The attempt under which a complete record is announced. The message of a failed attempt tells where the payload was
    /// when it failed, and the workflow may have announced that attempt in other words: the next one is announced.
    async fn to_be_announced(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<Option<OpenRecord>, StageError> {
        let OpenState::Failed { failure, .. } = &record.state else { return Ok(Some(record.clone())) };
        let message = record.message.redriven(failure, now);
        let look_at = now.after(self.settings.first_look);
        let next = OpenRecord::begin(message, record.durability, record.key, now, look_at);
        let current = self.open.redrive(&next).await?;
        Ok(current.filter(|current| current.attempt() == next.attempt()))
    }

    /// Closes a record that a person has discarded.
    async fn close(&self, record: &OpenRecord, now: Timestamp) -> Result<Looked, StageError> {
        if !self.take_turn(record, now).await? {
            return Ok(Looked::NotDue);
        }
        self.cache.unlink(record.id()).await?;
        self.open.close(record.attempt()).await?;
        Ok(Looked::Closed)
    }

    /// Starts an execution where none is under way, unless the payload is missing.
    async fn bring_on(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<Looked, StageError> {
        let id = record.id();
        if record.durability != Durability::Archived || record.missing_since.is_some() {
            match is_missing(&self.cache, &self.failed_store, &self.archive, &record.message).await {
                Ok(true) => {
                    let text = "the payload is in neither cache, failed bucket nor archive";
                    return self.have_failure_handled(record, now, ErrorName::PayloadMissing, text).await;
                }
                Ok(false) => {}
                Err(error) => {
                    warn!(record.id = %id, error.name = error.name.as_str(), %error, "cannot tell whether a payload is missing");
                }
            }
        }
        self.start(record, budget, now).await
    }

    async fn start(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<Looked, StageError> {
        if record.starts == 0 {
            return self.start_next(record, budget, now).await;
        }
        if !self.workflow.recognizes_names() {
            if now.since(record.started_at) < self.settings.restart_after {
                return Ok(if self.take_turn(record, now).await? { Looked::Running } else { Looked::NotDue });
            }
            return self.start_next(record, budget, now).await;
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        if !self.take_turn(record, now).await? {
            return Ok(Looked::NotDue);
        }
        match self.workflow.start(&record.message, record.starts).await? {
            Start::Started => {
                info!(record.id = %record.id(), attempt = record.attempt().number(), start = record.starts, "started the workflow");
                Ok(Looked::Started)
            }
            Start::Running => Ok(Looked::Running),
            // It ended, and neither closed the record nor had its failure handled.
            Start::Ended => match self.open.find(record.id()).await? {
                Some(again)
                    if again.attempt() == record.attempt() && again.state == OpenState::InProgress =>
                {
                    self.start_next(&again, budget, now).await
                }
                _ => Ok(Looked::NotDue),
            },
        }
    }

    /// Counts a further execution of the attempt, and starts it, unless patience is at its end. It is at its end only when an
    /// execution that was started late enough has failed as well, so that an outage is not held against the record.
    async fn start_next(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<Looked, StageError> {
        let tried_for = record.started_at.since(record.message.begun_at());
        if tried_for >= self.settings.patience && record.starts >= MIN_STARTS {
            let text = "the workflow has reached no end, however often it was started";
            return self.have_failure_handled(record, now, ErrorName::WorkflowIncomplete, text).await;
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        let look_at = self.next_look(record.looks + 1, now);
        let turn = Turn { look_at, start: Some(now), is_missing: false };
        if !self.open.take_turn(record, turn).await? {
            return Ok(Looked::NotDue);
        }
        let start = record.starts + 1;
        self.workflow.start(&record.message, start).await?;
        info!(record.id = %record.id(), attempt = record.attempt().number(), start, "started the workflow");
        Ok(Looked::Started)
    }

    /// Has the failure function do what it does.
    async fn have_failure_handled(
        &self,
        record: &OpenRecord,
        now: Timestamp,
        name: ErrorName,
        cause: &str,
    ) -> Result<Looked, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        let turn = Turn { look_at, start: None, is_missing: name == ErrorName::PayloadMissing };
        if !self.open.take_turn(record, turn).await? {
            return Ok(Looked::NotDue);
        }
        let failure = StageFailure {
            stage: "workflow".to_owned(),
            error_name: name.as_str().to_owned(),
            cause: cause.to_owned(),
            tries: record.starts,
        };
        let failed = FailedRecord::found(record.message.clone(), failure);
        let finished = self.failure_handler.handle(&failed).await?.finished;
        warn!(record.id = %record.id(), attempt = record.attempt().number(), error.name = name.as_str(), finished, "had a failure handled");
        Ok(if finished { Looked::Failed } else { Looked::Postponed })
    }

    /// Takes the expiry off the payload of a record in progress. Ingest does so after its response; it may have died in
    /// between, and so may an earlier look.
    async fn keep_payload(&self, record: &OpenRecord) {
        if record.durability == Durability::Archived || record.state != OpenState::InProgress {
            return;
        }
        if let Err(error) = self.cache.persist(record.id()).await {
            warn!(record.id = %record.id(), error.name = error.name.as_str(), %error, "could not take the expiry off a payload");
        }
    }

    /// A key stands for its record as long as that is open.
    async fn renew_claim(&self, record: &OpenRecord, now: Timestamp) {
        let Some(key) = &record.key else { return };
        if now.since(record.message.received_at) < CLAIM_LIFE / 2 {
            return;
        }
        if let Err(error) = self.claims.renew(key, record.id(), now.after(CLAIM_LIFE)).await {
            warn!(record.id = %record.id(), error.name = error.name.as_str(), %error, "could not renew the claim of an open record");
        }
    }
}
