//! Runs one execution: the states of the state machine over the real stages.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use custody_core::{
    dead_letter::StageFailure,
    error::{ErrorName, StageError, TRANSIENT_PLATFORM_ERRORS},
    failed_record::FailedRecord,
    message::InternalMessage,
    notification::Notification,
    ports::{CompletedItem, CompletionTimes, Notifier as _, OpenRecords as _},
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
    testing::world::EVENT_SOURCE,
};
use custody_simulation::workflow_model::{self as model, Outcome};
use futures_util::future::{LocalBoxFuture, join3};

use crate::{
    chance::Chance as _,
    platform::{self, StageTask},
    ports::Ports,
    process::{Failed, Process, Role, invoke},
    world::World,
};

/// The time after which an `EXPRESS` execution is cut off.
pub(crate) const EXPRESS_LIMIT: Duration = Duration::from_mins(5);

const STANDARD_LIMIT: Duration = Duration::from_hours(24 * 365);

/// The number of retries of a task.
const RETRIES: u32 = 6;

/// Runs an execution to its end. Returns the name of its last state.
pub(crate) fn execute(
    world: Arc<World>,
    message: InternalMessage,
    name: String,
) -> LocalBoxFuture<'static, &'static str> {
    Box::pin(async move {
        let process = Process::new(Role::Workflow, world.scheduler.now_ms());
        let limit = if world.setup.is_express { EXPRESS_LIMIT } else { STANDARD_LIMIT };
        let stops = world.stops_execution();
        let states_left = if stops { world.chance().below(12) } else { u64::MAX };
        let execution = Execution {
            ports: Ports::of(&world, &process),
            message,
            name,
            states_left: AtomicU64::new(states_left),
            failures: Mutex::default(),
        };
        let scheduler = world.scheduler.clone();
        match invoke(&scheduler, process, limit, async { Ok(execution.run().await) }).await {
            Ok(end) => end,
            Err(Failed::TimedOut) => "(cut off)",
            Err(_) => "(stopped)",
        }
    })
}

struct Execution {
    ports: Ports,
    message: InternalMessage,
    name: String,
    states_left: AtomicU64,
    failures: Mutex<Vec<StageFailure>>,
}

/// The result of a branch: its receipt, and whether its announcement is published.
struct Branch<T> {
    receipt: Option<T>,
    is_published: bool,
}

impl Execution {
    async fn run(&self) -> &'static str {
        let (received, archive, metadata) = join3(self.receipt(), self.archive(), self.metadata()).await;
        let mut is_published = received.is_published && archive.is_published && metadata.is_published;
        let mut done: Option<FinalRecord> = None;
        let mut is_handled = false;
        let mut state = model::GATHER;
        loop {
            self.enter(state).await;
            let yes = |yes| if yes { Outcome::Ok } else { Outcome::Unpublished };
            let outcome = match state {
                model::DID_EVERY_BRANCH_SUCCEED => {
                    yes(archive.receipt.is_some() && metadata.receipt.is_some())
                }
                model::AGGREGATE_RECORD => {
                    done = self.aggregate(&archive, &metadata).await;
                    if done.is_some() { Outcome::Ok } else { Outcome::Permanent }
                }
                model::IS_EVERYTHING_ANNOUNCED => {
                    is_published &= done.as_ref().is_some_and(|done| done.unlinked);
                    yes(is_published)
                }
                model::ANNOUNCE_COMPLETION => {
                    yes(self.announce_completion(&archive, &metadata, done.as_ref()).await)
                }
                model::CLOSE_RECORD => {
                    let closed =
                        self.retried(async || self.ports.open_records().close(self.message.attempt()).await);
                    if closed.await.is_ok() { Outcome::Ok } else { Outcome::Transient }
                }
                model::HANDLE_FAILURE => match self.handle_failure(&archive, &metadata).await {
                    Some(finished) => {
                        is_handled = finished;
                        Outcome::Ok
                    }
                    None => Outcome::Transient,
                },
                model::WAS_FAILURE_HANDLED => yes(is_handled),
                _ => Outcome::Ok,
            };
            match model::next(state, outcome) {
                Some(next) => state = next,
                None => return state,
            }
        }
    }

    /// Enters a state, unless the execution is stopped before it.
    async fn enter(&self, state: &'static str) {
        if self.states_left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.ports.world().ledger().counts.add("stopped before", state);
            self.ports.0.process.die::<()>().await;
        }
    }

    fn item(&self, archive: Option<&ArchiveReceipt>, metadata: Option<&MetadataReceipt>) -> CompletedItem {
        let begun = self.message.begun_at();
        CompletedItem {
            s3_reference: archive.map(|receipt| receipt.s3_reference.clone()),
            metadata_reference: metadata.map(|receipt| receipt.metadata_reference.clone()),
            stored_at: metadata.map_or(begun, |receipt| receipt.stored_at),
            times: CompletionTimes {
                archived_at: archive.map_or(begun, |receipt| receipt.archived_at),
                completed_at: begun,
            },
        }
    }

    /// Publishes the announcement with this number. Returns whether it could be published.
    async fn publish(&self, number: usize, item: &CompletedItem) -> bool {
        let all = Notification::of_completed(EVENT_SOURCE, &self.message, item);
        let published = self.retried(async || self.ports.notifier().publish(&all[number]).await).await;
        if published.is_err() {
            self.ports.world().ledger().situation("an announcement could not be published");
        }
        published.is_ok()
    }

    async fn receipt(&self) -> Branch<()> {
        let announcement = |()| (0, self.item(None, None));
        // Ingest gave the receipt before the workflow began, so this branch only announces it.
        self.branch(model::ANNOUNCE_RECEIPT, Some(()), async || None, announcement).await
    }

    async fn archive(&self) -> Branch<ArchiveReceipt> {
        let task = async || self.task(platform::archive(&self.message)).await;
        let announcement = |receipt| (1, self.item(Some(&receipt), None));
        self.branch(model::ARCHIVE_PAYLOAD, None, task, announcement).await
    }

    async fn metadata(&self) -> Branch<MetadataReceipt> {
        let task = async || self.task(platform::metadata(&self.message)).await;
        let announcement = |receipt| (2, self.item(None, Some(&receipt)));
        self.branch(model::STORE_METADATA, None, task, announcement).await
    }

    /// Runs a branch from its first state to its last, as defined by the model. `receipt` is the receipt that the
    /// branch has from the beginning, if any. `announcement` returns the number of the branch's announcement and the
    /// item that its content comes from.
    async fn branch<T: Clone>(
        &self,
        first: &'static str,
        receipt: Option<T>,
        task: impl AsyncFn() -> Option<T>,
        announcement: impl Fn(T) -> (usize, CompletedItem),
    ) -> Branch<T> {
        let mut branch = Branch { receipt, is_published: false };
        let mut next = Some(first);
        while let Some(state) = next {
            self.enter(state).await;
            let outcome = match (state, branch.receipt.clone()) {
                (model::ARCHIVE_PAYLOAD | model::STORE_METADATA, _) => {
                    branch.receipt = task().await;
                    if branch.receipt.is_some() { Outcome::Ok } else { Outcome::Permanent }
                }
                (
                    model::ANNOUNCE_RECEIPT | model::ANNOUNCE_ARCHIVED | model::ANNOUNCE_METADATA_STORED,
                    Some(receipt),
                ) => {
                    let (number, item) = announcement(receipt);
                    branch.is_published = self.publish(number, &item).await;
                    if branch.is_published { Outcome::Ok } else { Outcome::Unpublished }
                }
                _ => Outcome::Ok,
            };
            next = model::next(state, outcome);
        }
        branch
    }

    async fn aggregate(
        &self,
        archive: &Branch<ArchiveReceipt>,
        metadata: &Branch<MetadataReceipt>,
    ) -> Option<FinalRecord> {
        let (archive, metadata) = (archive.receipt.clone()?, metadata.receipt.clone()?);
        self.task(platform::aggregate(&self.message, archive, metadata)).await
    }

    async fn announce_completion(
        &self,
        archive: &Branch<ArchiveReceipt>,
        metadata: &Branch<MetadataReceipt>,
        done: Option<&FinalRecord>,
    ) -> bool {
        let mut item = self.item(archive.receipt.as_ref(), metadata.receipt.as_ref());
        item.times.completed_at = done.map_or(item.times.completed_at, |done| done.completed_at);
        self.publish(3, &item).await
    }

    /// Runs the failure function. Returns whether it handled the failure completely, or `None` if it did not handle the
    /// failure.
    async fn handle_failure(
        &self,
        archive: &Branch<ArchiveReceipt>,
        metadata: &Branch<MetadataReceipt>,
    ) -> Option<bool> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let record = FailedRecord {
            message: self.message.clone(),
            archive: archive.receipt.clone(),
            metadata: metadata.receipt.clone(),
            failures,
            execution_arn: Some(self.name.clone()),
        };
        Some(self.task(platform::failure(record)).await?.finished)
    }

    /// Calls a service until the call succeeds, or until its error is not worth another try.
    async fn retried(&self, call: impl AsyncFn() -> Result<(), StageError>) -> Result<(), StageError> {
        for tries in 0.. {
            match call().await {
                Err(error) if tries < RETRIES && error.name != ErrorName::AccessDenied => {
                    self.pause(tries).await;
                }
                answer => return answer,
            }
        }
        unreachable!("the last try returns")
    }

    /// Runs a stage's function until it succeeds, or until its error is not worth another try. In the latter case,
    /// stores the failure.
    async fn task<T: Send + 'static>(&self, task: StageTask<T>) -> Option<T> {
        for tries in 0.. {
            let failed = match self.invoke(&task).await {
                Ok(receipt) => return Some(receipt),
                Err(failed) => failed,
            };
            let name = failed.error_name();
            let is_transient = task.transient.iter().any(|known| known.as_str() == name)
                || TRANSIENT_PLATFORM_ERRORS.contains(&name);
            if !is_transient || tries == RETRIES {
                let (stage, cause, tries) = (task.stage.to_owned(), failed.cause(), tries + 1);
                let failure = StageFailure { stage, error_name: name.to_owned(), cause, tries };
                self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                return None;
            }
            self.pause(tries).await;
        }
        None
    }

    /// Runs a stage's function once. The function continues even if the execution does not.
    async fn invoke<T: Send + 'static>(&self, task: &StageTask<T>) -> Result<T, Failed> {
        let work = Arc::clone(&task.work);
        let answer = self.ports.call_function(task.stage, move |world| {
            let process = Process::new(Role::Stage, world.scheduler.now_ms());
            let ports = Ports::of(&world, &process);
            let scheduler = world.scheduler.clone();
            async move { invoke(&scheduler, process, Duration::from_mins(1), work(ports)).await }
        });
        match answer.await {
            Ok(answer) => answer,
            Err(error) if error.name == ErrorName::AccessDenied => {
                Err(Failed::Platform("Lambda.AccessDeniedException"))
            }
            Err(_) => Err(Failed::Platform("Lambda.TooManyRequestsException")),
        }
    }

    async fn pause(&self, tries: u32) {
        let limit = 1000_u64.saturating_mul(1 << tries.min(10)).min(20_000);
        let ms = self.ports.world().chance().below(limit);
        self.ports.world().scheduler.sleep(Duration::from_millis(ms)).await;
    }
}
