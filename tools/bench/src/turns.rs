//! Runs programs in turns, record by record, so that any other load on the machine affects all of them.

use std::{process::Stdio, thread, time::Duration};

use crate::{
    case::Case,
    deployment::Deployment,
    function::{Function, Program, Times},
    redis_link::RedisLink,
};

/// The number of records before the measured ones. They make the connections and touch memory pages for the first time.
const WARM_UP: usize = 5;

/// A program that takes turns with others.
#[derive(Clone, Debug)]
pub struct Participant {
    /// The program.
    pub program: Program,
    /// Environment variables that are added to those of the deployment, or replace them.
    pub variables: Vec<(&'static str, String)>,
    /// The pause after each of the program's turns.
    pub rest: Duration,
}

impl From<Program> for Participant {
    fn from(program: Program) -> Self {
        Self { program, variables: Vec::new(), rest: Duration::ZERO }
    }
}

/// The measurements of one participant.
#[derive(Debug)]
pub struct Outcome {
    /// The times of each record.
    pub times: Vec<Times>,
    /// CPU time per record, in microseconds.
    pub cpu_us: f64,
    /// The most memory that was resident, in bytes.
    pub peak_memory_bytes: u64,
}

/// Makes each participant process `records` records of a case, in turns. Each participant is warmed up first.
pub fn run(
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
            // The order changes with every record, so that no side always comes second.
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
