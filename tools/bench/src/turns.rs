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

/// Makes each participant process `records` records of a case, in turns. Returns one outcome for each participant.
///
/// The programs are started twice, in both orders, and each start processes half of the records: of two equal programs, the
/// one that was started first is some percent slower as long as it runs.
pub fn run(
    case: &Case,
    participants: &[Participant],
    records: usize,
    deployment: &Deployment,
    redis: &mut RedisLink,
) -> anyhow::Result<Vec<Outcome>> {
    let backwards: Vec<Participant> = participants.iter().rev().cloned().collect();
    let first = run_once(case, participants, records - records / 2, deployment, redis)?;
    if records < 2 {
        return Ok(first);
    }
    let second = run_once(case, &backwards, records / 2, deployment, redis)?;
    Ok(first.into_iter().zip(second.into_iter().rev()).map(|(first, second)| first.with(second)).collect())
}

impl Outcome {
    /// Adds the records of another start of the same program.
    fn with(mut self, other: Self) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let [own, others] = [self.times.len() as f64, other.times.len() as f64];
        let cpu_us = (self.cpu_us * own + other.cpu_us * others) / (own + others);
        self.times.extend(other.times);
        let peak_memory_bytes = self.peak_memory_bytes.max(other.peak_memory_bytes);
        Self { times: self.times, cpu_us, peak_memory_bytes }
    }
}

/// Starts the participants in their order, warms up each, and lets them process `records` records in turns.
fn run_once(
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
            let side = side(record, turn, running.len());
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

/// Returns whose turn it is. The order changes with every record, and its direction with every round of records: so each side
/// comes equally often first, and equally often after each other side, whose traces in the processor's caches it finds.
fn side(record: usize, turn: usize, sides: usize) -> usize {
    let is_backwards = (record / sides) % 2 == 1;
    let step = if is_backwards { sides - 1 - turn } else { turn };
    (record + step) % sides
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_side_follows_each_other_side_equally_often() {
        for sides in 2..=3 {
            let mut followed = BTreeMap::new();
            for record in 0..2 * sides {
                let order: Vec<_> = (0..sides).map(|turn| side(record, turn, sides)).collect();
                for pair in order.windows(2) {
                    *followed.entry((pair[0], pair[1])).or_insert(0) += 1;
                }
            }
            assert_eq!(followed.len(), sides * (sides - 1), "{followed:?}");
            assert!(followed.values().all(|count| *count == followed[&(0, 1)]), "{followed:?}");
        }
    }
}
