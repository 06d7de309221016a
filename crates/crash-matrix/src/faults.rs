//! Faults: what can go wrong at an effect, and the plan that says at which.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng as _, rngs::SmallRng};

/// What can go wrong at one effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The service answers that it cannot, and has done nothing.
    Refuse,
    /// The service denies access, and has done nothing.
    Deny,
    /// The service does it, and the answer is lost.
    LoseReply,
    /// The service does nothing and never answers.
    Hang,
    /// The service does it and never answers.
    HangAfter,
    /// The call fails, and the service does it all the same, some time later.
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
        Self::Hang,
        Self::HangAfter,
        Self::Late,
        Self::Kill,
        Self::KillAfter,
    ];
}

/// Who an effect is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Redis,
    Archive,
    PendingBucket,
    FailedBucket,
    Table,
    Queue,
    Topic,
    StepFunctions,
    FailureFunction,
    /// Not a call: the execution of a workflow as a whole, which can be stopped or take too long.
    Execution,
}

impl Service {
    pub(crate) const CALLED: [Self; 9] = [
        Self::Redis,
        Self::Archive,
        Self::PendingBucket,
        Self::FailedBucket,
        Self::Table,
        Self::Queue,
        Self::Topic,
        Self::StepFunctions,
        Self::FailureFunction,
    ];
}

/// A service that is away for a number of calls, of all services together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) service: Service,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) fault: Fault,
}

/// Which effects go wrong, by the number of the call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) single: BTreeMap<u64, Fault>,
    pub(crate) outages: Vec<Outage>,
}

impl Plan {
    /// A few single faults and perhaps an outage, among the first `calls` calls.
    pub(crate) fn random(random: &mut SmallRng, calls: u64) -> Self {
        let mut plan = Self::default();
        for _ in 0..=below(random, 6) {
            let fault = Fault::ALL[below(random, Fault::ALL.len() as u64) as usize];
            plan.single.insert(below(random, calls), fault);
        }
        for _ in 0..below(random, 3) {
            let from = below(random, calls);
            plan.outages.push(Outage {
                service: Service::CALLED[below(random, Service::CALLED.len() as u64) as usize],
                from,
                to: from + below(random, calls),
                fault: [Fault::Refuse, Fault::Deny, Fault::Hang, Fault::LoseReply][below(random, 4) as usize],
            });
        }
        plan
    }

    fn at(&self, call: u64, service: Service) -> Option<Fault> {
        let outage = self.outages.iter().find(|o| o.service == service && (o.from..o.to).contains(&call));
        self.single.get(&call).copied().or(outage.map(|outage| outage.fault))
    }
}

/// A number below `limit`.
pub(crate) fn below(random: &mut SmallRng, limit: u64) -> u64 {
    random.next_u64() % limit.max(1)
}

/// Counts calls and breaks those that the plan names.
#[derive(Debug, Default)]
pub(crate) struct Injector(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    calls: u64,
    injected: u64,
    trace: Vec<String>,
    /// Whether a fault met a call that is about idempotency keys.
    claims_disturbed: bool,
}

impl Injector {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks calls by this plan, whose first call is the next.
    pub(crate) fn follow(&self, plan: Plan) {
        let mut state = self.state();
        state.plan = plan;
        state.calls = 0;
    }

    /// The fault that the next call would have.
    pub(crate) fn upcoming(&self, service: Service) -> Option<Fault> {
        let state = self.state();
        state.plan.at(state.calls, service)
    }

    /// The fault of the next call, if any.
    pub(crate) fn next(&self, service: Service, operation: &str) -> Option<Fault> {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        let fault = state.plan.at(call, service)?;
        state.injected += 1;
        state.claims_disturbed |= operation.contains("claim");
        state.trace.push(format!("call {call}: {service:?} {operation}: {fault:?}"));
        Some(fault)
    }

    /// Notes what happened, for whoever replays the schedule.
    pub(crate) fn note(&self, line: String) {
        self.state().trace.push(line);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(crate) fn injected(&self) -> u64 {
        self.state().injected
    }

    pub(crate) fn claims_disturbed(&self) -> bool {
        self.state().claims_disturbed
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }
}

/// How much later a late effect happens: after the caller gave up, before or after others repeated it.
pub(crate) fn lateness(call: u64) -> Duration {
    Duration::from_secs([0, 1, 7, 40, 130, 400][(call % 6) as usize])
}
