//! Programs that take turns, record by record, so that whatever else the machine does befalls all of them.

use std::{process::Stdio, thread, time::Duration};

use crate::{
    case::Case,
    deployment::Deployment,
    function::{Function, Program, Times},
    redis_link::RedisLink,
};

/// Records before the measured ones: the first makes the connections, and pages are touched.
const WARM_UP: usize = 5;

/// A program that takes turns with others.
#[derive(Clone, Debug)]
pub struct Participant {
    /// The program.
    pub program: Program,
    /// The variables that it is given beside those of the deployment, or instead of them.
    pub variables: Vec<(&'static str, String)>,
    /// How long nobody works after each of its turns.
    pub rest: Duration,
}

impl From<Program> for Participant {
    fn from(program: Program) -> Self {
        Self { program, variables: Vec::new(), rest: Duration::ZERO }
    }
}

/// What became of a participant's turns.
#[derive(Debug)]
pub struct Outcome {
    /// The times of its records.
    pub times: Vec<Times>,
    /// CPU time per record, in microseconds.
    pub cpu_us: f64,
    /// The most memory that was resident, in bytes.
    pub peak_memory_bytes: u64,
}

/// Has each participant deal with so many records of a case. The first one is warmed up first.
pub fn take(
    case: &Case,
    participants: &[Participant],
    records: usize,
    deployment: &Deployment,
    redis: &mut RedisLink,
) -> anyhow::Result<Vec<Outcome>> {
    case.prepare(redis)?;
    let mut running = participants
        .iter()
        .map(|Participant { program, variables, .. }| {
            Function::start_with(program, deployment, variables, Stdio::inherit())
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    for function in &mut running {
        for _ in 0..WARM_UP {
            case.invoke(function, deployment, redis)?;
        }
    }
    let before = running.iter().map(Function::cpu_time).collect::<anyhow::Result<Vec<_>>>()?;
    let mut times: Vec<Vec<Times>> = running.iter().map(|_| Vec::with_capacity(records)).collect();
    for record in 0..records {
        for turn in 0..running.len() {
            // No side is always the one that comes second.
            let side = (record + turn) % running.len();
            times[side].push(case.invoke(&mut running[side], deployment, redis)?);
            thread::sleep(participants[side].rest);
        }
    }
    let outcomes = running.iter().zip(before).zip(times).map(|((function, before), times)| {
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let cpu_us = function.cpu_time()?.saturating_sub(before).as_secs_f64() * 1e6 / records as f64;
        Ok(Outcome { times, cpu_us, peak_memory_bytes: function.peak_memory_bytes()? })
    });
    outcomes.collect()
}
