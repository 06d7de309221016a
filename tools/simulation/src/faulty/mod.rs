//! Ports with faults: every effect of every stage passes through here on its way to the in-memory store.

mod cache;
mod open_records;
mod services;
mod stores;

use std::{future::Future, sync::Arc};

use custody_core::{
    error::{ErrorName, StageError},
    ports::Deployment,
};

use crate::{
    faults::{Fault, Service},
    process::{Process, Role},
    world::{SimulatedClock, World},
};

/// The stores and services of a deployment, as one process sees them.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) world: Arc<World>,
    pub(crate) process: Process,
}

/// The queue of dead letters or the queue of rejected requests, as one process sees it.
#[derive(Clone)]
pub(crate) struct FaultyQueue {
    pub(crate) ports: Faulty,
    /// Whether it is the queue of rejected requests.
    pub(crate) is_for_rejected: bool,
}

/// The deployment in which every port has faults.
pub(crate) struct Simulated;

impl Deployment for Simulated {
    type Cache = Faulty;
    type Archive = Faulty;
    type FailedStore = Faulty;
    type OpenRecords = Faulty;
    type Claims = Faulty;
    type Markers = Faulty;
    type RecordTable = Faulty;
    type Workflow = Faulty;
    type FailureHandler = Faulty;
    type DeadLetters = FaultyQueue;
    type Notifier = Faulty;
    type Clock = SimulatedClock;
}

impl Faulty {
    pub(crate) fn dead_letters(&self) -> FaultyQueue {
        FaultyQueue { ports: self.clone(), is_for_rejected: false }
    }

    pub(crate) fn rejected_requests(&self) -> FaultyQueue {
        FaultyQueue { ports: self.clone(), is_for_rejected: true }
    }

    pub(crate) fn clock(&self) -> SimulatedClock {
        SimulatedClock(Arc::clone(&self.world))
    }

    /// Runs `call` on the world, or the fault that the plan has for this call.
    pub(crate) async fn effect<T, F>(
        &self,
        service: Service,
        operation: &'static str,
        call: impl FnOnce(Arc<World>) -> F + Send,
    ) -> Result<T, StageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StageError>> + Send + 'static,
    {
        let call = call(Arc::clone(&self.world));
        let Self { world, process } = self;
        if process.is_answering() && service == Service::StepFunctions {
            world.ledger().violated("a receipt waited for the workflow".to_owned());
        }
        world.scheduler.sleep(world.injector.latency()).await;
        let failure = |name| Err(StageError::new(name, operation));
        let fault = world.injector.next(world.scheduler.now_ms(), service);
        if let Some(fault) = fault {
            world.note(|| format!("{:?}: {service:?} {operation}: {fault:?}", process.role()));
        }
        let is_service = process.role() == Role::Workflow;
        match fault {
            None => call.await,
            Some(Fault::Refuse) => failure(service.unavailable()),
            Some(Fault::Deny) => failure(ErrorName::AccessDenied),
            Some(Fault::LoseReply) => {
                call.await?;
                failure(service.unavailable())
            }
            Some(Fault::Kill) if !is_service => process.die().await,
            Some(Fault::KillAfter) if !is_service => {
                call.await.ok();
                process.die().await
            }
            Some(Fault::TimeOut | Fault::Kill) => {
                world.scheduler.sleep(world.injector.caller_timeout()).await;
                failure(service.unavailable())
            }
            Some(Fault::TimeOutAfter | Fault::KillAfter) => {
                call.await.ok();
                world.scheduler.sleep(world.injector.caller_timeout()).await;
                failure(service.unavailable())
            }
            Some(Fault::Late) => {
                let caller_timeout = world.injector.caller_timeout();
                let later = caller_timeout + world.injector.late_effect_delay(service);
                let scheduler = world.scheduler.clone();
                world.executions().begin_late();
                let there = Arc::clone(world);
                world.scheduler.spawn(async move {
                    scheduler.sleep(later).await;
                    there.note(|| format!("late: {service:?} {operation}"));
                    call.await.ok();
                    there.executions().end_late();
                });
                world.scheduler.sleep(caller_timeout).await;
                failure(service.unavailable())
            }
        }
    }
}
