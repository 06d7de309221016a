//! The state machine, as `statemachine/audit_record.asl.json` describes it: three branches that keep their failures, then
//! aggregate or the failure function, and an end under the name of what happened.

use std::{sync::Arc, time::Duration};

use custody_core::{
    dead_letter::StageFailure,
    error::ErrorName,
    message::InternalMessage,
    notification::Notification,
    ports::{Notifier as _, Outcome},
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
    stages::{
        aggregate::{self, AggregateInput},
        archive,
        failure::{self, Explanation, FailedRecord},
        metadata,
        reconcile::ended,
    },
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    faults::{Fault, Service},
    platform::{Failed, Retries, invoke},
    world::World,
};

/// The CloudEvents type of the last notification of a good record.
pub(crate) const COMPLETED: &str = "custody.message.completed.v1";

const fn stage(transient: &'static [ErrorName]) -> Retries {
    Retries { transient, max_attempts: 6, max_delay: Duration::from_secs(20) }
}

/// SNS's own transient names are the platform's.
const PUBLISH: Retries = stage(&[ErrorName::TopicUnavailable]);

const HANDLE: Retries =
    Retries { transient: failure::TRANSIENT, max_attempts: 8, max_delay: Duration::from_secs(30) };

/// An execution under way, which somebody may stop.
struct Execution<'a> {
    world: &'a Arc<World>,
    message: InternalMessage,
    arn: String,
    /// Set off with the name of the end it comes to.
    stop: Notify,
    timed_out: std::sync::atomic::AtomicBool,
}

/// Takes one run to its end.
pub(crate) async fn execute(world: &Arc<World>, message: InternalMessage) -> Outcome {
    let arn = format!("arn:aws:states:::execution:custody:{}", message.run());
    let execution =
        Execution { world, message, arn: arn.clone(), stop: Notify::new(), timed_out: false.into() };
    tokio::select! {
        biased;
        () = execution.stop.notified() => {
            let timed_out = execution.timed_out.load(std::sync::atomic::Ordering::Relaxed);
            let error = if timed_out { ended::TIMED_OUT } else { ended::ABORTED };
            Outcome::Ended { execution_arn: arn, error: error.to_owned(), cause: String::new() }
        }
        outcome = execution.run() => outcome,
    }
}

type Branch<T> = Result<T, (Option<T>, StageFailure)>;

impl Execution<'_> {
    async fn run(&self) -> Outcome {
        let (received, archived, stored) =
            futures_util::future::join3(self.announce_receipt(), self.archive(), self.metadata()).await;
        let mut failures = Vec::new();
        let mut note = |failure: Option<StageFailure>| failures.extend(failure);
        note(received.err());
        let (archived, failure) = split(archived);
        note(failure);
        let (stored, failure) = split(stored);
        note(failure);
        let (Some(archive), Some(metadata), true) = (archived.clone(), stored.clone(), failures.is_empty())
        else {
            return self.handle_failure(archived, stored, failures).await;
        };
        let done = match self.aggregate(archive, metadata).await {
            Ok(done) => done,
            Err(failure) => return self.handle_failure(archived, stored, vec![failure]).await,
        };
        match self.announce_completed(&done).await {
            Ok(()) => Outcome::Succeeded,
            Err(failure) => self.handle_failure(archived, stored, vec![failure]).await,
        }
    }

    /// Between two states, an execution can be stopped or run out of its time.
    async fn step(&self) {
        match self.world.injector.next(Service::Execution, "step") {
            Some(Fault::Kill | Fault::KillAfter) => self.stop.notify_one(),
            Some(Fault::Hang | Fault::HangAfter) => {
                self.timed_out.store(true, std::sync::atomic::Ordering::Relaxed);
                self.stop.notify_one();
            }
            _ => return,
        }
        std::future::pending::<()>().await;
    }

    async fn task<T>(
        &self,
        stage: &str,
        retries: Retries,
        task: impl AsyncFnMut() -> Result<T, Failed>,
    ) -> Result<T, StageFailure> {
        self.step().await;
        retries.run(task).await.map_err(|(failed, tries)| StageFailure {
            stage: stage.to_owned(),
            error_name: failed.error_name().to_owned(),
            cause: failed.cause(),
            tries,
        })
    }

    async fn announce(
        &self,
        stage: &str,
        event_type: &'static str,
        time: String,
    ) -> Result<(), StageFailure> {
        let message = &self.message;
        let notification = Notification {
            event_type,
            message_type: message.meta_data.message_type().to_owned(),
            source_system_id: message.meta_data.source_system_id().to_owned(),
            body: json!({"id": format!("{}/{event_type}", message.message_id), "subject": message.message_id, "time": time}),
        };
        self.task(&format!("announce-{stage}"), PUBLISH, async || {
            let notification = &notification;
            invoke(Duration::from_secs(15), |invocation| async move {
                self.world.notifier(&invocation).publish(notification).await
            })
            .await
        })
        .await
    }

    async fn announce_receipt(&self) -> Result<(), StageFailure> {
        self.announce("received", "custody.message.received.v1", self.message.received_at.to_string()).await
    }

    async fn archive(&self) -> Branch<ArchiveReceipt> {
        let receipt = self
            .task("archive", stage(archive::TRANSIENT), async || {
                invoke(Duration::from_secs(30), |invocation| async move {
                    let (cache, archive) = (self.world.cache(&invocation), self.world.archive(&invocation));
                    archive::run(&cache, &archive, &self.world.clock, &self.message).await
                })
                .await
            })
            .await
            .map_err(|failure| (None, failure))?;
        let announced =
            self.announce("archived", "custody.message.archived.v1", receipt.archived_at.to_string());
        match announced.await {
            Ok(()) => Ok(receipt),
            Err(failure) => Err((Some(receipt), failure)),
        }
    }

    async fn metadata(&self) -> Branch<MetadataReceipt> {
        let receipt = self
            .task("metadata", stage(metadata::TRANSIENT), async || {
                invoke(Duration::from_secs(10), |invocation| async move {
                    let table = self.world.table(&invocation);
                    metadata::run(&table, &self.world.clock, &self.message).await
                })
                .await
            })
            .await
            .map_err(|failure| (None, failure))?;
        let event_type = "custody.message.metadata-stored.v1";
        match self.announce("metadata-stored", event_type, receipt.stored_at.to_string()).await {
            Ok(()) => Ok(receipt),
            Err(failure) => Err((Some(receipt), failure)),
        }
    }

    async fn aggregate(
        &self,
        archive: ArchiveReceipt,
        metadata: MetadataReceipt,
    ) -> Result<FinalRecord, StageFailure> {
        let input = AggregateInput { message: self.message.clone(), archive, metadata };
        self.task("aggregate", stage(aggregate::TRANSIENT), async || {
            let input = input.clone();
            invoke(Duration::from_secs(20), |invocation| async move {
                let (table, cache) = (self.world.table(&invocation), self.world.cache(&invocation));
                let markers = self.world.markers(&invocation);
                aggregate::run(&table, &cache, &markers, &self.world.clock, input).await
            })
            .await
        })
        .await
    }

    async fn announce_completed(&self, done: &FinalRecord) -> Result<(), StageFailure> {
        self.announce("completed", COMPLETED, done.completed_at.to_string()).await
    }

    async fn handle_failure(
        &self,
        archive: Option<ArchiveReceipt>,
        metadata: Option<MetadataReceipt>,
        failures: Vec<StageFailure>,
    ) -> Outcome {
        let end = |error: &str, cause: String| Outcome::Ended {
            execution_arn: self.arn.clone(),
            error: error.to_owned(),
            cause,
        };
        let known = json!({"failures": failures, "archive": archive, "metadata": metadata}).to_string();
        let name = failures[0].error_name.clone();
        let input = FailedRecord {
            message: self.message.clone(),
            archive,
            metadata,
            failures,
            execution_arn: Some(self.arn.clone()),
            explanation: Explanation::Now,
        }
        .to_json();
        match self.task("failure", HANDLE, async || self.world.fail(&input).await).await {
            Ok(receipt) if receipt.finished => end(&name, format!("{}}}", ended::HANDLED)),
            Ok(_) => end(ended::FAILURE_UNFINISHED, known),
            Err(_) => end(ended::FAILURE_NOT_HANDLED, known),
        }
    }
}

fn split<T>(branch: Branch<T>) -> (Option<T>, Option<StageFailure>) {
    match branch {
        Ok(receipt) => (Some(receipt), None),
        Err((receipt, failure)) => (receipt, Some(failure)),
    }
}
