//! A deployment in memory: every function over faulty ports, and what calls them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use custody_common::bounded::{Bounded, ingest_shares as share};
use custody_core::{
    dead_letter::DeadLetter,
    error::{ErrorName, StageError},
    message::InternalMessage,
    ports::{Outcome, Start},
    proxy::ProxyResponse,
    run::Run,
    stages::{
        failure::{Failure, FailureInput, FailureReceipt, RedrivePolicy},
        ingest::Ingest,
        reconcile::{Reconcile, Report, Settings},
        redrive::{FORCE, Redrive},
    },
};
use custody_test_support::doubles::{
    MemoryArchive, MemoryCache, MemoryDeadLetters, MemoryFailedStore, MemoryMarkers, MemoryNotifier,
    MemoryRedrives, MemoryTable,
};
use serde_json::json;

use crate::{
    clock::SimulatedClock,
    faults::{Injector, Service},
    faulty::{Executions, FailureInvoker, Faulty},
    platform::{Failed, Invocation, invoke},
    workflow,
};

/// The source of notifications.
pub(crate) const EVENT_SOURCE: &str = "urn:custody:crash-matrix";

/// How often SQS hands out a message of the redrive queue before it goes to the dead-letter queue.
const MAX_RECEIVES: u32 = 4;

/// All stores and executions.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cache: Arc<MemoryCache>,
    pub(crate) archive: Arc<MemoryArchive>,
    pub(crate) markers: Arc<MemoryMarkers>,
    pub(crate) table: Arc<MemoryTable>,
    pub(crate) failed_store: Arc<MemoryFailedStore>,
    pub(crate) dead_letters: Arc<MemoryDeadLetters>,
    pub(crate) redrives: Arc<MemoryRedrives>,
    pub(crate) notifier: Arc<MemoryNotifier>,
    pub(crate) injector: Arc<Injector>,
    pub(crate) clock: SimulatedClock,
    pub(crate) policy: RedrivePolicy,
    /// How many letters are on the redrive queue or with its function.
    pub(crate) in_redrive: AtomicUsize,
    executions: Mutex<BTreeMap<Run, Outcome>>,
}

impl World {
    pub(crate) fn new(seed: u64, policy: RedrivePolicy) -> Arc<Self> {
        Arc::new(Self {
            cache: Arc::default(),
            archive: Arc::default(),
            markers: Arc::default(),
            table: Arc::default(),
            failed_store: Arc::default(),
            dead_letters: Arc::default(),
            redrives: Arc::default(),
            notifier: Arc::default(),
            injector: Arc::default(),
            clock: SimulatedClock::new(seed),
            policy,
            in_redrive: AtomicUsize::new(0),
            executions: Mutex::default(),
        })
    }

    fn faulty<S>(
        &self,
        store: &Arc<S>,
        service: Service,
        unavailable: ErrorName,
        invocation: &Invocation,
    ) -> Faulty<S> {
        Faulty {
            store: Arc::clone(store),
            service,
            unavailable,
            injector: Arc::clone(&self.injector),
            invocation: invocation.clone(),
        }
    }

    pub(crate) fn cache(&self, invocation: &Invocation) -> Faulty<MemoryCache> {
        self.faulty(&self.cache, Service::Redis, ErrorName::CacheUnavailable, invocation)
    }

    pub(crate) fn archive(&self, invocation: &Invocation) -> Faulty<MemoryArchive> {
        self.faulty(&self.archive, Service::Archive, ErrorName::ArchiveUnavailable, invocation)
    }

    pub(crate) fn markers(&self, invocation: &Invocation) -> Faulty<MemoryMarkers> {
        self.faulty(&self.markers, Service::PendingBucket, ErrorName::PendingStoreUnavailable, invocation)
    }

    pub(crate) fn table(&self, invocation: &Invocation) -> Faulty<MemoryTable> {
        self.faulty(&self.table, Service::Table, ErrorName::TableUnavailable, invocation)
    }

    pub(crate) fn notifier(&self, invocation: &Invocation) -> Faulty<MemoryNotifier> {
        self.faulty(&self.notifier, Service::Topic, ErrorName::TopicUnavailable, invocation)
    }

    fn failed_store(&self, invocation: &Invocation) -> Faulty<MemoryFailedStore> {
        self.faulty(&self.failed_store, Service::FailedBucket, ErrorName::FailedStoreUnavailable, invocation)
    }

    fn dead_letters(&self, invocation: &Invocation) -> Faulty<MemoryDeadLetters> {
        self.faulty(&self.dead_letters, Service::Queue, ErrorName::QueueUnavailable, invocation)
    }

    fn workflow(self: &Arc<Self>, invocation: &Invocation) -> Faulty<Self> {
        self.faulty(self, Service::StepFunctions, ErrorName::WorkflowUnavailable, invocation)
    }

    fn failure_function(self: &Arc<Self>, invocation: &Invocation) -> Faulty<Self> {
        self.faulty(self, Service::FailureFunction, ErrorName::FailureFunctionUnavailable, invocation)
    }

    /// Posts a request; `None` where the producer gets no answer.
    pub(crate) async fn post(self: &Arc<Self>, event: &str) -> Option<ProxyResponse> {
        let answer = invoke(Duration::from_secs(26), |invocation| async move {
            let stage = Ingest {
                cache: Bounded::new(self.cache(&invocation), share::CACHE),
                archive: Bounded::new(self.archive(&invocation), share::ARCHIVE),
                markers: Bounded::new(self.markers(&invocation), share::MARKER),
                workflow: Bounded::new(self.workflow(&invocation), share::START),
                salvage: Bounded::new(self.failure_function(&invocation), share::SALVAGE),
                clock: self.clock.clone(),
            };
            Ok(stage.run(event.as_bytes()).await)
        });
        answer.await.ok()
    }

    /// Runs the failure function once.
    pub(crate) async fn fail(self: &Arc<Self>, input: &str) -> Result<FailureReceipt, Failed> {
        invoke(Duration::from_mins(1), |invocation| async move {
            let stage = Failure {
                cache: self.cache(&invocation),
                archive: self.archive(&invocation),
                markers: self.markers(&invocation),
                table: self.table(&invocation),
                failed_store: self.failed_store(&invocation),
                dead_letters: self.dead_letters(&invocation),
                redrives: self.faulty(
                    &self.redrives,
                    Service::Queue,
                    ErrorName::QueueUnavailable,
                    &invocation,
                ),
                notifier: self.notifier(&invocation),
                clock: self.clock.clone(),
                event_source: EVENT_SOURCE.to_owned(),
                policy: self.policy,
            };
            stage.run(FailureInput::parse(input)?).await
        })
        .await
    }

    /// Runs reconcile once.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Option<Report> {
        let report = invoke(Duration::from_mins(2), |invocation| async move {
            let stage = Reconcile {
                cache: self.cache(&invocation),
                markers: self.markers(&invocation),
                table: self.table(&invocation),
                workflow: self.workflow(&invocation),
                failure_handler: self.failure_function(&invocation),
                clock: self.clock.clone(),
                settings: Settings {
                    min_age: Duration::from_mins(2),
                    budget: Duration::from_secs(40),
                    concurrency: 4,
                    max_outcomes: 500,
                    max_pending: 1000,
                },
            };
            stage.run().await
        });
        report.await.ok()
    }

    /// Delivers one letter of the redrive queue, as SQS does: again until the function has dealt with it, and to the
    /// dead-letter queue when that was too often.
    pub(crate) async fn deliver_redrive(self: Arc<Self>, letter: DeadLetter, delay: Duration, forced: bool) {
        self.in_redrive.fetch_add(1, Ordering::Relaxed);
        self.redrive_until_done(letter, delay, forced).await;
        self.in_redrive.fetch_sub(1, Ordering::Relaxed);
    }

    async fn redrive_until_done(self: &Arc<Self>, letter: DeadLetter, delay: Duration, forced: bool) {
        tokio::time::sleep(delay).await;
        let attributes =
            if forced { json!({FORCE: {"stringValue": "true", "dataType": "String"}}) } else { json!({}) };
        let event = json!({"Records": [{
            "messageId": "m-1", "body": json!(letter).to_string(), "messageAttributes": attributes,
        }]});
        for _ in 0..MAX_RECEIVES {
            let batch = serde_json::from_value(event.clone()).expect("the event is one of SQS");
            let world = &self;
            let response = invoke(Duration::from_mins(1), |invocation| async move {
                let stage = Redrive {
                    cache: world.cache(&invocation),
                    archive: world.archive(&invocation),
                    markers: world.markers(&invocation),
                    table: world.table(&invocation),
                    failed_store: world.failed_store(&invocation),
                    workflow: world.workflow(&invocation),
                    dead_letters: world.dead_letters(&invocation),
                    clock: world.clock.clone(),
                    policy: world.policy,
                };
                Ok(stage.run(batch).await)
            });
            if response.await.is_ok_and(|response| response.batch_item_failures.is_empty()) {
                return;
            }
            tokio::time::sleep(Duration::from_mins(6)).await;
        }
        let queue: &MemoryDeadLetters = &self.dead_letters;
        custody_core::ports::DeadLetters::send(&queue, &letter).await.expect("SQS moves its own messages");
    }

    fn executions(&self) -> MutexGuard<'_, BTreeMap<Run, Outcome>> {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs whose execution is under way.
    pub(crate) fn running(&self) -> Vec<Run> {
        let executions = self.executions();
        executions.iter().filter(|(_, outcome)| **outcome == Outcome::Running).map(|(run, _)| *run).collect()
    }
}

impl Executions for World {
    fn start(self: Arc<Self>, message: InternalMessage) -> Start {
        let run = message.run();
        match self.executions().get(&run) {
            Some(Outcome::Running) => return Start::Running,
            Some(_) => return Start::Existed,
            None => {}
        }
        self.executions().insert(run, Outcome::Running);
        tokio::task::spawn_local(async move {
            let outcome = workflow::execute(&self, message).await;
            self.injector.note(format!("execution {run}: {outcome:?}"));
            self.executions().insert(run, outcome);
        });
        Start::Started
    }

    fn outcome(&self, run: Run) -> Option<Outcome> {
        self.executions().get(&run).cloned()
    }
}

impl FailureInvoker for World {
    async fn invoke_failure(self: Arc<Self>, input: String) -> Result<FailureReceipt, StageError> {
        let failed = |failed: Failed| {
            StageError::new(
                ErrorName::FailureFunctionUnavailable,
                format!("{}: {}", failed.error_name(), failed.cause()),
            )
        };
        Box::pin(self.fail(&input)).await.map_err(failed)
    }
}
