//! Simulates Lambda: invokes the functions over ports with faults.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use custody_core::{
    access::AccessControl,
    breaker::Breaker,
    error::{ErrorName, StageError},
    failed_record::{FailedRecord, FailureReceipt},
    message::InternalMessage,
    proxy::ProxyResponse,
    receipt::{ArchiveReceipt, FinalRecord, MetadataReceipt},
    stages::{
        aggregate::{self, AggregateInput},
        archive::{self, Archive},
        failure::{self, Failure},
        ingest::{Ingest, TABLE_BREAKER_PAUSE},
        metadata,
        reconcile::{Reconcile, Report},
        upload::Transfers,
    },
    testing::world::{EVENT_SOURCE, FIRST_LOOK},
};

use crate::{
    chance::Chance as _,
    faults::Service,
    ports::{Ports, Simulated},
    process::{Failed, Process, Role, invoke},
    scheduler::Boxed,
    world::World,
};

/// The function of a stage, as the workflow invokes it.
pub(crate) struct StageTask<T> {
    pub(crate) stage: &'static str,
    pub(crate) transient: &'static [ErrorName],
    pub(crate) work: Arc<dyn Fn(Ports) -> Boxed<Result<T, StageError>> + Send + Sync>,
}

fn task<T, F>(
    stage: &'static str,
    transient: &'static [ErrorName],
    work: impl Fn(Ports) -> F + Send + Sync + 'static,
) -> StageTask<T>
where
    F: Future<Output = Result<T, StageError>> + Send + 'static,
{
    StageTask { stage, transient, work: Arc::new(move |ports| Box::pin(work(ports))) }
}

/// Returns the task that runs the archive function.
pub(crate) fn archive(message: &InternalMessage) -> StageTask<ArchiveReceipt> {
    let message = message.clone();
    task("archive", archive::TRANSIENT, move |ports| {
        let message = message.clone();
        async move {
            let stage = Archive::<Simulated> {
                cache: ports.cache(),
                failed_store: ports.failed_store(),
                archive: ports.archive(),
                clock: ports.clock(),
            };
            stage.run(&message).await
        }
    })
}

/// Returns the task that runs the metadata function.
pub(crate) fn metadata(message: &InternalMessage) -> StageTask<MetadataReceipt> {
    let message = message.clone();
    task("metadata", metadata::TRANSIENT, move |ports| {
        let message = message.clone();
        async move { metadata::run(&ports.record_table(), &ports.clock(), &message).await }
    })
}

/// Returns the task that runs the aggregate function.
pub(crate) fn aggregate(
    message: &InternalMessage,
    archive: ArchiveReceipt,
    metadata: MetadataReceipt,
) -> StageTask<FinalRecord> {
    let input = AggregateInput { message: message.clone(), archive, metadata };
    task("aggregate", aggregate::TRANSIENT, move |ports| {
        let input = input.clone();
        async move { aggregate::run(&ports.record_table(), &ports.cache(), &ports.clock(), input).await }
    })
}

/// Returns the task that runs the failure function.
pub(crate) fn failure(record: FailedRecord) -> StageTask<FailureReceipt> {
    task("failure", failure::TRANSIENT, move |ports| {
        let record = record.clone();
        async move { failure_stage(&ports).run(record).await }
    })
}

fn failure_stage(ports: &Ports) -> Failure<Simulated> {
    Failure {
        cache: ports.cache(),
        failed_store: ports.failed_store(),
        archive: ports.archive(),
        open_records: ports.open_records(),
        record_table: ports.record_table(),
        dead_letters: ports.dead_letters(),
        topic: ports.notifier(),
        clock: ports.clock(),
        event_source: EVENT_SOURCE.to_owned(),
        policy: ports.world().setup.policy,
    }
}

/// Runs the failure function, as reconcile does.
pub(crate) fn handle_failure(
    world: Arc<World>,
    record: FailedRecord,
) -> Boxed<Result<FailureReceipt, Failed>> {
    // Boxed, because reconcile runs the function through a port, and the type of the port's future must not contain
    // itself.
    Box::pin(async move {
        let process = Process::new(Role::Stage, world.scheduler.now_ms());
        let ports = Ports::of(&world, &process);
        let stage = failure_stage(&ports);
        invoke(&world.scheduler, process, Duration::from_mins(1), Box::pin(stage.run(record))).await
    })
}

/// Runs reconcile once. Returns its report, or `None` if it failed.
pub(crate) async fn reconcile(world: Arc<World>, limit: Duration) -> Option<Report> {
    let process = Process::new(Role::Reconcile, world.scheduler.now_ms());
    let ports = Ports::of(&world, &process);
    let stage = Reconcile::<Simulated> {
        cache: ports.cache(),
        failed_store: ports.failed_store(),
        archive: ports.archive(),
        open_records: ports.open_records(),
        claims: ports.open_records(),
        markers: ports.markers(),
        record_table: ports.record_table(),
        workflow: ports.workflow(),
        failure_handler: ports.failure_handler(),
        topic: ports.notifier(),
        clock: ports.clock(),
        event_source: EVENT_SOURCE.to_owned(),
        settings: world.setup.settings(),
    };
    let report = invoke(&world.scheduler, process, limit, stage.run()).await;
    world.note(|| match &report {
        Ok(report) => format!("reconcile: {report:?}"),
        Err(failed) => format!("reconcile: {failed:?}"),
    });
    report.ok()
}

/// The environments of the ingest function that process no request now.
pub(crate) type Environments = Vec<Environment>;

/// An environment of the ingest function: one process, which processes one request after the other.
pub(crate) struct Environment {
    ingest: Ingest<Simulated>,
    process: Process,
}

impl Environment {
    fn new(world: &Arc<World>) -> Self {
        let process = Process::new(Role::Ingest, world.scheduler.now_ms());
        let ports = Ports::of(world, &process);
        let ingest = Ingest {
            access: AccessControl::new(ports.access()),
            cache: ports.cache(),
            archive: ports.archive(),
            open_records: ports.open_records(),
            claims: ports.open_records(),
            markers: ports.markers(),
            workflow: ports.workflow(),
            failed_store: ports.failed_store(),
            dead_letters: ports.dead_letters(),
            rejected_requests: ports.rejected_requests(),
            transfers: Transfers {
                uploads: ports.uploads(),
                staging: ports.staging(),
                open_records: ports.open_records(),
                claims: ports.open_records(),
                workflow: ports.workflow(),
                allowed_sources: "arn:aws:s3:::scans/*".parse().expect("an ARN of objects"),
                clock: ports.clock(),
                first_look: FIRST_LOOK,
            },
            clock: ports.clock(),
            table_breaker: Breaker::new(TABLE_BREAKER_PAUSE),
            first_look: FIRST_LOOK,
        };
        Self { ingest, process }
    }
}

/// Answers a request. Returns `None` if the producer gets no answer. The follow-up runs concurrently after the answer,
/// or never.
pub(crate) async fn post(world: Arc<World>, event: Bytes, crashes: u64) -> Option<ProxyResponse> {
    let known = world.environments().pop();
    let environment = known.unwrap_or_else(|| Environment::new(&world));
    let Environment { ingest, process } = &environment;
    process.begin(world.scheduler.now_ms());
    process.set_answering(true);
    let limit = Duration::from_secs(26);
    let answer =
        invoke(&world.scheduler, process.clone(), limit, async { Ok(ingest.run(event).await) }).await;
    let answer = answer.ok()?;
    process.set_answering(false);
    if world.chance().percent(crashes) {
        if answer.response.status_code == 200 {
            world.ledger().situation("a crash between answer and follow-up");
        }
        return Some(answer.response);
    }
    let there = Arc::clone(&world);
    world.scheduler.spawn(async move {
        let Environment { ingest, process } = &environment;
        let follow_up = async {
            ingest.follow_up(answer.follow_up).await;
            Ok(())
        };
        if invoke(&there.scheduler, process.clone(), limit, follow_up).await.is_ok() {
            there.environments().push(environment);
        }
    });
    Some(answer.response)
}

impl Ports {
    /// Runs a function, as the workflow does.
    pub(crate) async fn call_function<T, F>(
        &self,
        stage: &'static str,
        call: impl FnOnce(Arc<World>) -> F + Send,
    ) -> Result<Result<T, Failed>, StageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failed>> + Send + 'static,
    {
        let world = Arc::clone(self.world());
        let work = call(Arc::clone(&world));
        self.0
            .effect(Service::Functions, stage, async move { Ok(world.scheduler.spawn_joined(work).await) })
            .await
    }
}
