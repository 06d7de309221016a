//! Faults: what can go wrong at an effect, and the plan that has it happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use custody_core::error::ErrorName;
use rand::{SeedableRng as _, rngs::SmallRng};

use crate::{chance::Chance as _, counts::Counts};

/// What can go wrong at one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The service throttles, or answers that it cannot, and has done nothing.
    Refuse,
    /// The service denies access, and has done nothing.
    Deny,
    /// The service does it, and the answer is lost.
    LoseReply,
    /// The service does nothing, and the caller waits until its patience ends.
    TimeOut,
    /// The service does it, and the caller waits in vain for the answer.
    TimeOutAfter,
    /// The caller's patience ends, and the service does it later all the same.
    Late,
    /// The process dies before the effect.
    Kill,
    /// The process dies after the effect.
    KillAfter,
}

impl Fault {
    pub(crate) const ALL: [Self; 8] = [
        Self::Refuse,
        Self::Deny,
        Self::LoseReply,
        Self::TimeOut,
        Self::TimeOutAfter,
        Self::Late,
        Self::Kill,
        Self::KillAfter,
    ];

    /// The faults that pass by themselves.
    pub(crate) const PASSING: [Self; 7] = [
        Self::Refuse,
        Self::LoseReply,
        Self::TimeOut,
        Self::TimeOutAfter,
        Self::Late,
        Self::Kill,
        Self::KillAfter,
    ];
}

/// Who an effect is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Cache,
    Archive,
    FailedBucket,
    Markers,
    OpenTable,
    ClaimTable,
    RecordTable,
    Queue,
    Topic,
    StepFunctions,
    FailureFunction,
    /// The invocation of a stage's function by the workflow.
    Functions,
}

impl Service {
    pub(crate) const ALL: [Self; 12] = [
        Self::Cache,
        Self::Archive,
        Self::FailedBucket,
        Self::Markers,
        Self::OpenTable,
        Self::ClaimTable,
        Self::RecordTable,
        Self::Queue,
        Self::Topic,
        Self::StepFunctions,
        Self::FailureFunction,
        Self::Functions,
    ];

    /// The error of a stage that cannot have this service.
    pub(crate) fn unavailable(self) -> ErrorName {
        match self {
            Self::Cache => ErrorName::CacheUnavailable,
            Self::Archive => ErrorName::ArchiveUnavailable,
            Self::FailedBucket => ErrorName::FailedStoreUnavailable,
            Self::Markers => ErrorName::MarkersUnavailable,
            Self::OpenTable | Self::ClaimTable | Self::RecordTable => ErrorName::TableUnavailable,
            Self::Queue => ErrorName::QueueUnavailable,
            Self::Topic => ErrorName::TopicUnavailable,
            Self::StepFunctions => ErrorName::WorkflowUnavailable,
            Self::FailureFunction | Self::Functions => ErrorName::FailureFunctionUnavailable,
        }
    }

    /// How much later a late effect of this service may happen.
    fn latest(self) -> Duration {
        match self {
            // A request to Step Functions does not outlive the connection of the one who gave up on it for long: what an
            // EXPRESS execution may overlap with rests on that.
            Self::StepFunctions => Duration::from_mins(1),
            _ => Duration::from_secs(400),
        }
    }
}

/// A time in which a service fails.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) services: Vec<Service>,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) fault: Fault,
    /// How many of a hundred calls fail.
    pub(crate) percent: u64,
}

/// Which effects go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Faults by the number of the call.
    pub(crate) single: BTreeMap<u64, Fault>,
    /// How many of a thousand calls go wrong, whatever they are.
    pub(crate) per_mille: u64,
    /// In which ways.
    pub(crate) faults: Vec<Fault>,
    pub(crate) outages: Vec<Outage>,
}

/// Counts calls, and breaks those that the plan has break.
pub(crate) struct Injector(Mutex<State>);

struct State {
    plan: Plan,
    chance: SmallRng,
    calls: u64,
    counts: Counts,
    denied: BTreeSet<Service>,
}

impl Injector {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(State {
            plan: Plan::default(),
            chance: SmallRng::seed_from_u64(seed),
            calls: 0,
            counts: Counts::default(),
            denied: BTreeSet::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks calls by this plan from now on.
    pub(crate) fn follow(&self, plan: Plan) {
        self.state().plan = plan;
    }

    /// The fault of the next call, if any.
    pub(crate) fn next(&self, now_ms: i64, service: Service) -> Option<Fault> {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        let State { plan, chance, .. } = &mut *state;
        let mut fault = plan.single.get(&call).copied();
        if fault.is_none()
            && let Some(outage) = plan
                .outages
                .iter()
                .find(|o| (o.from_ms..o.to_ms).contains(&now_ms) && o.services.contains(&service))
            && chance.percent(outage.percent)
        {
            fault = Some(outage.fault);
        }
        if fault.is_none() && plan.per_mille > 0 && chance.below(1000) < plan.per_mille {
            fault = Some(chance.one_of(&plan.faults));
        }
        let fault = fault?;
        state.counts.add("fault", format!("{service:?} {fault:?}"));
        if fault == Fault::Deny {
            state.denied.insert(service);
        }
        Some(fault)
    }

    /// How long an effect takes.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(1 + self.state().chance.below(20))
    }

    /// How long a caller waits for an answer that does not come.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(1000 + self.state().chance.below(6000))
    }

    /// How much later a late effect happens.
    pub(crate) fn lateness(&self, service: Service) -> Duration {
        let chance = &mut self.state().chance;
        let limit = service.latest().as_millis().try_into().unwrap_or(u64::MAX);
        let scale = chance.one_of(&[200, 3_000, 20_000, 130_000, limit]).min(limit);
        Duration::from_millis(chance.below(scale))
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(crate) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }
}
