//! The crash matrix: the real stages over stores in memory, with everything that can go wrong.
//!
//! First one record with one fault, for every fault at every call of its way. Then as many random schedules as wanted:
//! several producers, repeated requests, faults, outages, losses of the cache, stopped executions, operators. After each
//! schedule everything is mended, and every accepted record must be at one of its ends; what must never happen is checked
//! all the time.
#![expect(clippy::print_stdout, reason = "a command-line program")]

mod chance;
mod counts;
mod faults;
mod faulty;
mod invariants;
mod ledger;
mod operator;
mod platform;
mod process;
mod producer;
mod requests;
mod schedule;
mod scheduler;
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

use crate::{counts::Counts, faults::Fault, schedule::Schedule};

#[derive(Parser)]
#[command(
    name = "custody-crash-matrix",
    about = "Drives the stages through faults, outages, losses and races. Exit status: 0 no violation, 1 violations, 2 wrong usage."
)]
struct Arguments {
    /// How many random schedules to run, after the systematic ones.
    #[arg(long, default_value_t = 6000)]
    schedules: u64,
    /// Where the random schedules begin; schedule n has the seed S + n.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many schedules to run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Leave out the systematic schedules.
    #[arg(long)]
    only_random: bool,
    /// Print what happened in every schedule; with `--schedules 1`, a replay.
    #[arg(long)]
    trace: bool,
    /// Print how often each fault and each situation came about.
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

/// How many violated schedules are shown; the others are counted.
const MAX_SHOWN: u64 = 5;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let totals = Mutex::new(Totals::default());
    let is_replay = arguments.trace && arguments.schedules == 1;
    if !arguments.only_random && !is_replay {
        let ways = [(false, false), (true, false), (false, true), (true, true)];
        let cases: Vec<_> = Fault::ALL
            .into_iter()
            .flat_map(|fault| ways.map(|(keyed, express)| (fault, keyed, express)))
            .collect();
        in_parallel(arguments.jobs, cases.len() as u64, |case| {
            let (fault, is_keyed, is_express) = cases[usize::try_from(case).unwrap_or(0)];
            every_call(fault, is_keyed, is_express, &totals);
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

/// A fault at every call, as far as the way of a record goes.
fn every_call(fault: Fault, is_keyed: bool, is_express: bool, totals: &Mutex<Totals>) {
    let mut calls = 1;
    let mut call = 0;
    while call < calls {
        calls = run(&Schedule::single(call, fault, is_keyed, is_express), false, totals);
        call += 1;
    }
}

/// Runs one schedule; how many calls it made.
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
            println!("replay with: custody-crash-matrix {} --trace", schedule.name);
            for violation in &outcome.violations {
                println!("  {violation}");
            }
        }
        for violation in outcome.violations {
            // Without the ids of this schedule.
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
        "crash matrix: {schedules} schedules, {} faults, {} events, {acknowledged} records acknowledged: {} completed, \
         {} discarded, {} lost with all nodes of their shard at level `replicated`, each with a dead letter; \
         {violated} schedules with violations",
        counts.of("fault"),
        counts.of("weather"),
        of("COMPLETED"),
        of("discarded"),
        of("FAILED, PayloadLost"),
    );
}
