//! the simulation runs the real stages over in-memory stores, with everything that can go wrong.
//!
//! It first runs systematic schedules: one record with one fault, for every fault at every call that processing a
//! record makes. It then runs random schedules, with several producers, repeated requests, faults, outages, losses of
//! the cache, stopped executions and operators. At the end of each schedule all faults end, and every accepted record
//! must reach one of its ends. What must never happen is checked at every effect.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod chance;
mod counts;
mod faults;
mod faulty;
mod invariants;
mod ledger;
mod operator;
mod platform;
mod ports;
mod process;
mod producer;
mod requests;
mod schedule;
mod scheduler;
mod services;
mod watch;
mod weather;
mod workflow;
mod world;

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use strum::VariantArray as _;

use crate::{counts::Counts, faults::Fault, schedule::Schedule};

#[derive(Parser)]
#[command(
    name = "custody-simulation",
    about = "Drives the stages through faults, outages, losses and races. Exit status: 0 no violation, 1 violations, 2 wrong usage."
)]
struct Arguments {
    /// The number of random schedules to run after the systematic ones.
    #[arg(long, default_value_t = 6000)]
    schedules: u64,
    /// The seed S of the random schedules; schedule n has the seed S + n.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of schedules to run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Do not run the systematic schedules.
    #[arg(long)]
    only_random: bool,
    /// Print what happened in every schedule. With `--schedules 1`, only the schedule of the seed runs: a replay.
    #[arg(long)]
    trace: bool,
    /// Print how often each fault and each situation occurred.
    #[arg(long)]
    counts: bool,
}

#[derive(Default)]
struct Totals {
    schedules: u64,
    acknowledged: u64,
    violated: u64,
    counts: Counts,
}

/// The maximum number of violated schedules to print. The others are only counted.
const MAX_SHOWN: u64 = 5;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let totals = Mutex::new(Totals::default());
    let is_replay = arguments.trace && arguments.schedules == 1;
    if !arguments.only_random && !is_replay {
        let ways = [(false, false), (true, false), (false, true), (true, true)];
        let cases: Vec<_> = Fault::VARIANTS
            .iter()
            .copied()
            .flat_map(|fault| ways.map(|(keyed, express)| (fault, keyed, express)))
            .collect();
        in_parallel(arguments.jobs, cases.len() as u64, |case| {
            let (fault, is_keyed, is_express) = cases[usize::try_from(case).unwrap_or(0)];
            run_fault_at_every_call(fault, is_keyed, is_express, &totals);
        });
        let schedules = lock(&totals).schedules;
        println!("systematic: {schedules} schedules, each fault at every call of a record");
    }
    in_parallel(arguments.jobs, arguments.schedules, |n| {
        run(&Schedule::random(arguments.seed.wrapping_add(n)), arguments.trace, &totals);
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    print_summary(&totals, arguments.counts);
    if totals.violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_parallel(jobs: usize, cases: u64, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= cases {
                        break;
                    }
                    work(case);
                }
            });
        }
    });
}

/// Runs one schedule for each call that processing a record makes, with the fault at that call.
fn run_fault_at_every_call(fault: Fault, is_keyed: bool, is_express: bool, totals: &Mutex<Totals>) {
    let mut calls = 1;
    let mut call = 0;
    while call < calls {
        calls = run(&Schedule::single(call, fault, is_keyed, is_express), false, totals);
        call += 1;
    }
}

/// Runs one schedule. Returns the number of calls that it made.
fn run(schedule: &Schedule, trace: bool, totals: &Mutex<Totals>) -> u64 {
    let outcome = schedule.run(trace);
    let mut totals = lock(totals);
    totals.schedules += 1;
    totals.acknowledged += outcome.acknowledged;
    totals.counts.merge(outcome.counts);
    if trace {
        println!("{}", outcome.trace.join("\n"));
    }
    if !outcome.violations.is_empty() {
        totals.violated += 1;
        if totals.violated <= MAX_SHOWN {
            println!("\nVIOLATED: {}", schedule.name);
            println!("replay with: cargo xtask simulate {} --trace", schedule.name);
            for violation in &outcome.violations {
                println!("  {violation}");
            }
        }
        for violation in outcome.violations {
            // Leaves out the ids of this schedule, so that equal violations of different schedules are counted
            // together.
            let words = violation.split_whitespace().filter(|word| !word.contains("-7")).collect::<Vec<_>>();
            totals.counts.add("violation", words.join(" "));
        }
    }
    outcome.calls
}

fn print_summary(totals: &Totals, with_counts: bool) {
    let Totals { schedules, acknowledged, violated, counts } = totals;
    if with_counts {
        print!("{counts}");
    }
    let of = |name| counts.get("record ended", name);
    println!(
        "simulation: {schedules} schedules, {} faults, {} events, {acknowledged} records acknowledged: {} completed, \
         {} discarded, {} lost with all nodes of their shard at level `replicated`, each with a dead letter; \
         {violated} schedules with violations",
        counts.of("fault"),
        counts.of("weather"),
        of("COMPLETED"),
        of("discarded"),
        of("FAILED, PayloadLost"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_simulation_finds_no_violation() {
        for seed in 1..=80 {
            let schedule = Schedule::random(seed);
            assert_eq!(schedule.run(false).violations, Vec::<String>::new(), "{}", schedule.name);
        }
    }
}
