//! Faults: the interceptor through which every effect of every stage passes on its way to a store or service.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
};

use custody_core::{
    error::{ErrorName, StageError},
    ports::{
        PortName,
        intercepted::{Call, Interceptor},
    },
};

use crate::{
    faults::{Fault, Service},
    process::{Process, Role},
    watch::{self, Caller, Facts},
    world::World,
};

/// The interceptor of the ports of one process. It makes the calls fail that the plan selects.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) world: Arc<World>,
    pub(crate) process: Process,
}

impl Interceptor for Faulty {
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl Future<Output = Result<T, StageError>> + Send + 'static,
    ) -> Result<T, StageError> {
        let effect = self.watched(call, effect);
        self.effect(Service::of(call.port), call.operation, effect).await
    }
}

impl Faulty {
    /// Runs `effect`, or the fault that the plan has for this call.
    pub(crate) async fn effect<T: Send + 'static>(
        &self,
        service: Service,
        operation: &'static str,
        effect: impl Future<Output = Result<T, StageError>> + Send + 'static,
    ) -> Result<T, StageError> {
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
            None => effect.await,
            Some(Fault::Refuse) => failure(service.unavailable()),
            Some(Fault::Deny) => failure(ErrorName::AccessDenied),
            Some(Fault::LoseReply) => {
                effect.await?;
                failure(service.unavailable())
            }
            Some(Fault::Kill) if !is_service => process.die().await,
            Some(Fault::KillAfter) if !is_service => {
                effect.await.ok();
                process.die().await
            }
            Some(Fault::TimeOut | Fault::Kill) => {
                world.scheduler.sleep(world.injector.caller_timeout()).await;
                failure(service.unavailable())
            }
            Some(Fault::TimeOutAfter | Fault::KillAfter) => {
                effect.await.ok();
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
                    effect.await.ok();
                    there.executions().end_late();
                });
                world.scheduler.sleep(caller_timeout).await;
                failure(service.unavailable())
            }
        }
    }

    /// Returns `effect` with every change that it makes to the stores' facts about a record checked at that moment. The
    /// schedule runs on one thread, so what changes while the effect is polled is changed by the effect.
    fn watched<T>(
        &self,
        Call { port, operation, record }: Call,
        effect: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let (world, caller) = (Arc::clone(&self.world), Caller::of(&self.process));
        let (mut effect, mut has_changed) = (Box::pin(effect), false);
        poll_fn(move |context| {
            let before = record.map(|id| Facts::of(&world, id));
            let polled = effect.as_mut().poll(context);
            if let Some(before) = before {
                has_changed |= watch::check_change(&world, caller, &before);
            }
            let is_write = port == PortName::OpenRecords && operation != "find";
            if polled.is_ready() && !has_changed && record.is_some() && is_write {
                world.ledger().counts.add("effect without a change", operation);
            }
            polled
        })
    }
}
