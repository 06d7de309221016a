//! Simulates Step Functions. Executions are distinguished by name (`STANDARD`) or by start (`EXPRESS`).

mod execution;

use std::{collections::BTreeMap, sync::Arc};

use custody_core::{attempt::Attempt, message::InternalMessage, ports::Start};

use crate::{chance::Chance as _, workflow::execution::EXPRESS_LIMIT, world::World};

/// The percentage of starts of an `EXPRESS` workflow that the platform doubles.
const DOUBLED_STARTS_PERCENT: u64 = 10;

/// All executions of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Executions {
    by_name: BTreeMap<String, NamedExecution>,
    last_starts: BTreeMap<Attempt, (String, i64)>,
    running: usize,
    late: usize,
}

#[derive(Debug, Default)]
struct NamedExecution {
    running: usize,
}

impl Executions {
    /// Returns whether no execution is running and no late effect is pending.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.running == 0 && self.late == 0
    }

    pub(crate) fn begin_late(&mut self) {
        self.late += 1;
    }

    pub(crate) fn end_late(&mut self) {
        self.late -= 1;
    }

    fn begin(&mut self, name: &str) {
        self.running += 1;
        self.by_name.entry(name.to_owned()).or_default().running += 1;
    }

    fn end(&mut self, name: &str) {
        self.running -= 1;
        self.by_name.entry(name.to_owned()).or_default().running -= 1;
    }

    /// Notes this start. Returns whether the start before it may still be running.
    fn overlaps(&mut self, attempt: Attempt, name: &str, now_ms: i64, is_express: bool) -> bool {
        let before = self.last_starts.insert(attempt, (name.to_owned(), now_ms));
        before.is_some_and(|(before, began_ms)| {
            if is_express {
                now_ms - began_ms < i64::try_from(EXPRESS_LIMIT.as_millis()).unwrap_or(i64::MAX)
            } else {
                self.by_name.get(&before).is_some_and(|known| known.running > 0)
            }
        })
    }
}

/// Starts an execution.
pub(crate) fn start(world: &Arc<World>, message: &InternalMessage, start: u32) -> Start {
    let attempt = message.attempt();
    let name = attempt.execution_name(start);
    let is_express = world.setup.is_express;
    if !is_express && let Some(known) = world.executions().by_name.get(&name) {
        return if known.running > 0 { Start::Running } else { Start::Ended };
    }
    let overlaps = world.executions().overlaps(attempt, &name, world.scheduler.now_ms(), is_express);
    if overlaps {
        let text = format!("{name} was started while the execution before it may still be running");
        world.ledger().violated(text);
    }
    let copies = if is_express && world.chance().percent(DOUBLED_STARTS_PERCENT) { 2 } else { 1 };
    for copy in 0..copies {
        if copy > 0 {
            world.ledger().situation("the platform started an execution twice");
        }
        world.executions().begin(&name);
        let execution = execution::execute(Arc::clone(world), message.clone(), name.clone());
        let (world, name) = (Arc::clone(world), name.clone());
        world.note(|| format!("execution {name} begins"));
        world.clone().scheduler.spawn(async move {
            let end = execution.await;
            world.note(|| format!("execution {name} ended: {end}"));
            world.ledger().counts.add("execution ended", end);
            world.executions().end(&name);
        });
    }
    Start::Started
}
