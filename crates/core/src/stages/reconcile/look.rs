//! One look of reconcile at one open record.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tracing::{error, info, warn};

use super::{LookResult, Reconcile, Settings};
use crate::{
    clock::{Clock as _, Timestamp},
    dead_letter::StageFailure,
    error::{ErrorKind, ErrorName, StageError},
    failed_record::FailedRecord,
    idempotency::CLAIM_LIFETIME,
    notification::Notification,
    open_record::{OpenRecord, OpenState},
    payload_search::is_missing,
    ports::{
        CompletedItem, Deployment, FailureHandler as _, IdempotencyClaims as _, ItemState, Notifier as _,
        OpenRecords as _, PayloadCache as _, Start, Turn, Workflow as _,
    },
    receipt::Durability,
    record_id::RecordId,
    stages::redrive,
};

/// How long after this run reconcile looks again at a record for which no start was left. The record is then behind
/// those that were not reached.
const POSTPONE_DELAY: Duration = Duration::from_mins(1);

/// The number of failed starts after which one run starts no further executions.
const MAX_FAILED_STARTS: usize = 20;

/// The minimum number of executions of an attempt before the workflow counts as unable to finish the record.
const MIN_STARTS: u32 = 3;

/// The time and the starts that one run of reconcile may still use.
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

    /// Takes one start out of the budget. Returns whether the run may make it.
    pub(in crate::stages) fn take_start(&self) -> bool {
        self.failed_starts.load(Ordering::Relaxed) < MAX_FAILED_STARTS
            && self.starts.fetch_add(1, Ordering::Relaxed) < self.settings.max_starts
    }
}

/// What the record table reports about a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum ItemLookup<'a> {
    /// The state of the record's item; `None` if it has no item.
    Answered(Option<&'a ItemState>),
    /// The table could not be asked.
    Unavailable,
}

impl<D: Deployment> Reconcile<D> {
    /// Looks at a record that the index lists as due, and does its pending work.
    pub(super) async fn look(&self, id: RecordId, item: ItemLookup<'_>, budget: &Budget) -> LookResult {
        if budget.is_over(self.clock.now()) {
            return LookResult::Postponed;
        }
        self.do_pending_work(id, item, budget).await.unwrap_or_else(|error| {
            if error.name == ErrorName::WorkflowUnavailable {
                budget.failed_starts.fetch_add(1, Ordering::Relaxed);
            }
            error!(record.id = %id, error.name = error.name.as_str(), %error, "could not reconcile record");
            if error.kind() == ErrorKind::Transient { LookResult::Postponed } else { LookResult::Stuck }
        })
    }

    async fn do_pending_work(
        &self,
        id: RecordId,
        item: ItemLookup<'_>,
        budget: &Budget,
    ) -> Result<LookResult, StageError> {
        let now = self.clock.now();
        // The index is a hint: the record may be closed, or another caller may have taken its turn.
        let Some(record) = self.open_records.find(id).await?.filter(|record| record.look_at <= now) else {
            return Ok(LookResult::NotDue);
        };
        self.renew_claim(&record, now).await;
        self.remove_payload_expiry(&record).await;
        let ItemLookup::Answered(item) = item else { return Ok(LookResult::Postponed) };
        let number = record.attempt().number();
        match (item, &record.state) {
            (Some(ItemState::Completed(item)), _) => self.announce_and_close(&record, item, now).await,
            // This includes a record that was discarded meanwhile: its subscribers are informed that it has failed.
            (_, OpenState::Failed { pending_steps, .. }) if !pending_steps.is_empty() => {
                self.invoke_failure_function(&record, now, ErrorName::WorkflowIncomplete, "").await
            }
            (Some(ItemState::Failed { discarded: true, attempt }), _) if *attempt >= number => {
                self.close(&record, now).await
            }
            (_, OpenState::Failed { failure, .. }) => {
                redrive::redrive_automatically(self, &record, failure, budget, now).await
            }
            (_, OpenState::InProgress) => self.start_unless_missing(&record, budget, now).await,
        }
    }

    /// Takes the turn of a record, without counting a start.
    async fn take_turn(&self, record: &OpenRecord, now: Timestamp) -> Result<bool, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        self.open_records.take_turn(record, Turn { look_at, start: None, is_missing: false }).await
    }

    /// Moves the next look at a record for which this run has no start left, so that the records behind it are looked
    /// at. A missing payload must be noticed within minutes, also behind a backlog.
    pub(in crate::stages) async fn postpone(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        let turn = Turn { look_at: now.after(POSTPONE_DELAY), start: None, is_missing: false };
        self.open_records.take_turn(record, turn).await?;
        Ok(LookResult::Postponed)
    }

    /// Removes the payload of a complete record from the cache, announces the record and closes it.
    async fn announce_and_close(
        &self,
        record: &OpenRecord,
        item: &CompletedItem,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        if !self.take_turn(record, now).await? {
            return Ok(LookResult::NotDue);
        }
        self.cache.unlink(record.id()).await?;
        let Some(record) = self.attempt_to_announce(record, now).await? else {
            return Ok(LookResult::NotDue);
        };
        for notification in Notification::of_completed(&self.event_source, &record.message, item) {
            self.topic.publish(&notification).await?;
        }
        self.open_records.close(record.attempt()).await?;
        info!(record.id = %record.id(), "announced and closed a completed record");
        Ok(LookResult::Closed)
    }

    /// Returns the open record at the attempt under which a complete record is announced; `None` if another caller has
    /// changed it. A failed attempt is not announced as completed: its message has the location of the payload at the
    /// time of the failure, and the workflow may have announced the attempt with other content. The next attempt is
    /// announced instead.
    async fn attempt_to_announce(
        &self,
        record: &OpenRecord,
        now: Timestamp,
    ) -> Result<Option<OpenRecord>, StageError> {
        let OpenState::Failed { failure, .. } = &record.state else { return Ok(Some(record.clone())) };
        let message = record.message.redriven(failure, now);
        let look_at = now.after(self.settings.first_look);
        let next = OpenRecord::begin(message, record.durability, record.key, now, look_at);
        let current = self.open_records.redrive(&next).await?;
        Ok(current.filter(|current| current.attempt() == next.attempt()))
    }

    /// Closes a record that an operator has discarded.
    async fn close(&self, record: &OpenRecord, now: Timestamp) -> Result<LookResult, StageError> {
        if !self.take_turn(record, now).await? {
            return Ok(LookResult::NotDue);
        }
        self.cache.unlink(record.id()).await?;
        self.open_records.close(record.attempt()).await?;
        Ok(LookResult::Closed)
    }

    /// Starts an execution if none is running, unless the payload is missing.
    async fn start_unless_missing(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        let id = record.id();
        if record.durability != Durability::Archived || record.missing_since.is_some() {
            match is_missing(&self.cache, &self.failed_store, &self.archive, &record.message).await {
                Ok(true) => {
                    let text = "the payload is in neither cache, failed bucket nor archive";
                    return self.invoke_failure_function(record, now, ErrorName::PayloadMissing, text).await;
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
    ) -> Result<LookResult, StageError> {
        if record.starts == 0 {
            return self.start_next(record, budget, now).await;
        }
        if !self.workflow.recognizes_names() {
            if now.since(record.started_at) < self.settings.restart_after {
                return Ok(if self.take_turn(record, now).await? {
                    LookResult::Running
                } else {
                    LookResult::NotDue
                });
            }
            return self.start_next(record, budget, now).await;
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        if !self.take_turn(record, now).await? {
            return Ok(LookResult::NotDue);
        }
        match self.workflow.start(&record.message, record.starts).await? {
            Start::Started => {
                info!(record.id = %record.id(), attempt = record.attempt().number(), start = record.starts, "started the workflow");
                Ok(LookResult::Started)
            }
            Start::Running => Ok(LookResult::Running),
            // The execution ended. This record needs another one if it is still open at this attempt and has not
            // failed.
            Start::Ended => match self.open_records.find(record.id()).await? {
                Some(again)
                    if again.attempt() == record.attempt() && again.state == OpenState::InProgress =>
                {
                    self.start_next(&again, budget, now).await
                }
                _ => Ok(LookResult::NotDue),
            },
        }
    }

    /// Counts a further execution of the attempt and starts it. If the attempt has been tried for long enough, has it
    /// handled as a failure instead. The time is measured up to the last start, not up to now, so that an outage in
    /// which nothing could be started does not count against the record.
    async fn start_next(
        &self,
        record: &OpenRecord,
        budget: &Budget,
        now: Timestamp,
    ) -> Result<LookResult, StageError> {
        let tried_for = record.started_at.since(record.message.begun_at());
        if tried_for >= self.settings.patience && record.starts >= MIN_STARTS {
            let text = "the workflow was started repeatedly and did not bring the record to an end";
            return self.invoke_failure_function(record, now, ErrorName::WorkflowIncomplete, text).await;
        }
        if !budget.take_start() {
            return self.postpone(record, now).await;
        }
        let look_at = self.next_look(record.looks + 1, now);
        let turn = Turn { look_at, start: Some(now), is_missing: false };
        if !self.open_records.take_turn(record, turn).await? {
            return Ok(LookResult::NotDue);
        }
        let start = record.starts + 1;
        self.workflow.start(&record.message, start).await?;
        info!(record.id = %record.id(), attempt = record.attempt().number(), start, "started the workflow");
        Ok(LookResult::Started)
    }

    /// Takes the turn of a record and invokes the failure function for it.
    async fn invoke_failure_function(
        &self,
        record: &OpenRecord,
        now: Timestamp,
        name: ErrorName,
        cause: &str,
    ) -> Result<LookResult, StageError> {
        let look_at = self.next_look(record.looks + 1, now);
        let turn = Turn { look_at, start: None, is_missing: name == ErrorName::PayloadMissing };
        if !self.open_records.take_turn(record, turn).await? {
            return Ok(LookResult::NotDue);
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
        Ok(if finished { LookResult::Failed } else { LookResult::Postponed })
    }

    /// Removes the expiry of the payload of a record in progress. Ingest does so after its response, but ingest or an
    /// earlier look may have died before that.
    async fn remove_payload_expiry(&self, record: &OpenRecord) {
        if record.durability == Durability::Archived || record.state != OpenState::InProgress {
            return;
        }
        if let Err(error) = self.cache.persist(record.id()).await {
            warn!(record.id = %record.id(), error.name = error.name.as_str(), %error, "could not take the expiry off a payload");
        }
    }

    /// Renews the claim of the record's idempotency key, because the key stands for the record as long as the record is
    /// open.
    async fn renew_claim(&self, record: &OpenRecord, now: Timestamp) {
        let Some(key) = &record.key else { return };
        if now.since(record.message.received_at) < CLAIM_LIFETIME / 2 {
            return;
        }
        if let Err(error) = self.claims.renew(key, record.id(), now.after(CLAIM_LIFETIME)).await {
            warn!(record.id = %record.id(), error.name = error.name.as_str(), %error, "could not renew the claim of an open record");
        }
    }
}
