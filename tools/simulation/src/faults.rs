//! Defines the faults of effects, and the plan that decides which effects fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use custody_core::{error::ErrorName, ports::PortName};
use rand::{SeedableRng as _, rngs::SmallRng};
use strum::VariantArray;

use crate::{chance::Chance as _, counts::Counts};

/// A fault of one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub(crate) enum Fault {
    /// The service throttles or reports an error, and has done nothing.
    Refuse,
    /// The service denies access, and has done nothing.
    Deny,
    /// The service performs the effect, and the answer is lost.
    LoseReply,
    /// The service does nothing, and the caller waits until its timeout.
    TimeOut,
    /// The service performs the effect, and the caller waits in vain for the answer until its timeout.
    TimeOutAfter,
    /// The caller's timeout passes, and the service performs the effect later nevertheless.
    Late,
    /// The process dies before the effect.
    Kill,
    /// The process dies after the effect.
    KillAfter,
}

impl Fault {
    /// The faults that end by themselves.
    pub(crate) const TEMPORARY: [Self; 7] = [
        Self::Refuse,
        Self::LoseReply,
        Self::TimeOut,
        Self::TimeOutAfter,
        Self::Late,
        Self::Kill,
        Self::KillAfter,
    ];
}

/// The service that an effect is requested from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, VariantArray)]
pub(crate) enum Service {
    Cache,
    Archive,
    FailedBucket,
    Markers,
    OpenTable,
    ClaimTable,
    RecordTable,
    AccessTable,
    UploadTable,
    StagingArea,
    Queue,
    Topic,
    StepFunctions,
    FailureFunction,
    /// The invocation of a stage's function by the workflow.
    Functions,
}

impl Service {
    /// Returns the service that a port is on.
    pub(crate) const fn of(port: PortName) -> Self {
        match port {
            PortName::PayloadCache => Self::Cache,
            PortName::PayloadArchive => Self::Archive,
            PortName::FailedBucket => Self::FailedBucket,
            PortName::AcceptanceMarkers => Self::Markers,
            PortName::OpenRecords => Self::OpenTable,
            PortName::IdempotencyClaims => Self::ClaimTable,
            PortName::RecordTable => Self::RecordTable,
            PortName::AccessEntries => Self::AccessTable,
            PortName::Uploads => Self::UploadTable,
            PortName::StagingArea => Self::StagingArea,
            PortName::DeadLetters => Self::Queue,
            PortName::Notifier => Self::Topic,
            PortName::Workflow => Self::StepFunctions,
            PortName::FailureHandler => Self::FailureFunction,
        }
    }

    /// Returns the error of a stage that cannot use this service.
    pub(crate) fn unavailable(self) -> ErrorName {
        match self {
            Self::Cache => ErrorName::CacheUnavailable,
            Self::Archive | Self::StagingArea => ErrorName::ArchiveUnavailable,
            Self::FailedBucket => ErrorName::FailedStoreUnavailable,
            Self::Markers => ErrorName::MarkersUnavailable,
            Self::OpenTable
            | Self::ClaimTable
            | Self::RecordTable
            | Self::AccessTable
            | Self::UploadTable => ErrorName::TableUnavailable,
            Self::Queue => ErrorName::QueueUnavailable,
            Self::Topic => ErrorName::TopicUnavailable,
            Self::StepFunctions => ErrorName::WorkflowUnavailable,
            Self::FailureFunction | Self::Functions => ErrorName::FailureFunctionUnavailable,
        }
    }

    /// Returns the maximum delay of a late effect of this service.
    fn max_late_effect_delay(self) -> Duration {
        match self {
            // After a caller has given up and its connection has ended, a request to Step Functions takes effect soon
            // or never. What an EXPRESS execution may overlap with depends on that.
            Self::StepFunctions => Duration::from_mins(1),
            _ => Duration::from_secs(400),
        }
    }
}

/// A period in which services fail.
#[derive(Clone, Debug)]
pub(crate) struct Outage {
    pub(crate) services: Vec<Service>,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) fault: Fault,
    /// The percentage of calls that fail.
    pub(crate) percent: u64,
}

/// The plan of which effects fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Faults by the number of the call.
    pub(crate) single: BTreeMap<u64, Fault>,
    /// The number of calls in a thousand that fail, of any service.
    pub(crate) per_mille: u64,
    /// The faults to choose from for these calls.
    pub(crate) faults: Vec<Fault>,
    pub(crate) outages: Vec<Outage>,
}

/// Counts calls, and makes those fail that the plan selects.
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

    /// Follows this plan from now on.
    pub(crate) fn follow(&self, plan: Plan) {
        self.state().plan = plan;
    }

    /// Returns the fault of the next call, if any.
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

    /// Returns the time that an effect takes.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(1 + self.state().chance.below(20))
    }

    /// Returns the time for which a caller waits for an answer that does not come.
    pub(crate) fn caller_timeout(&self) -> Duration {
        Duration::from_millis(1000 + self.state().chance.below(6000))
    }

    /// Returns the delay of a late effect after its caller's timeout.
    pub(crate) fn late_effect_delay(&self, service: Service) -> Duration {
        let chance = &mut self.state().chance;
        let limit = service.max_late_effect_delay().as_millis().try_into().unwrap_or(u64::MAX);
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
