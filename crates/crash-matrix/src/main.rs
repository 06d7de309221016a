//! The crash matrix: every stage, every effect, every fault.
//!
//! First one record with one fault, for every fault at every call of its way. Then as many random schedules as wanted:
//! several producers, repeated requests, several faults, services that are away, clocks that go wrong, redrives. After
//! each schedule every acknowledged record must be at one of its two ends; after everything is mended and redriven, all
//! must be complete.
#![expect(clippy::print_stdout, reason = "a command-line program")]
#![expect(clippy::cast_possible_truncation, reason = "small numbers from a seed")]

mod clock;
mod faults;
mod faulty;
mod invariants;
mod platform;
mod schedule;
mod workflow;
mod world;

use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{faults::Fault, schedule::Schedule};

#[derive(Parser)]
#[command(
    name = "cargo xtask crash-matrix",
    about = "Drives the stages through every fault at every effect. Exit status: 0 no violation, 1 violations, 2 wrong usage."
)]
struct Arguments {
    /// How many random schedules to run, after the systematic ones.
    #[arg(long, default_value_t = 2000)]
    schedules: u64,
    /// Where the random schedules begin; schedule n has the seed S + n.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave out the systematic schedules.
    #[arg(long)]
    only_random: bool,
    /// Print what happened in every schedule; with `--schedules 1`, a replay.
    #[arg(long)]
    trace: bool,
}

#[derive(Default)]
struct Totals {
    schedules: u64,
    faults: u64,
    acknowledged: usize,
    violated: u64,
}

/// How many violated schedules are shown; the others are counted.
const MAX_SHOWN: u64 = 5;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut totals = Totals::default();
    let is_replay = arguments.trace && arguments.schedules == 1;
    if !arguments.only_random && !is_replay {
        systematic(&mut totals);
        println!("systematic: {} schedules, one fault at every call", totals.schedules);
    }
    let bar = ProgressBar::new(arguments.schedules);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} schedules, {eta} left") {
        bar.set_style(style);
    }
    for n in 0..arguments.schedules {
        run(&Schedule::random(arguments.seed.wrapping_add(n)), arguments.trace, &mut totals);
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!(
        "crash matrix: {} schedules, {} faults, {} receipts, {} schedules with violations",
        totals.schedules, totals.faults, totals.acknowledged, totals.violated
    );
    if totals.violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every fault at every call, until a call comes that the way of a record never gets to.
fn systematic(totals: &mut Totals) {
    for keyed in [false, true] {
        for fault in Fault::ALL {
            for call in 0.. {
                let faults = totals.faults;
                let calls = run(&Schedule::single(call, fault, keyed), false, totals);
                // The last calls of the quiet times only wait; one more round of them is enough.
                if call > calls || (faults == totals.faults && call > 40) {
                    break;
                }
            }
        }
    }
}

/// Runs one schedule; how many calls its first part made.
fn run(schedule: &Schedule, trace: bool, totals: &mut Totals) -> u64 {
    let run = schedule.run();
    totals.schedules += 1;
    totals.faults += run.faults;
    totals.acknowledged += run.acknowledged;
    if trace {
        println!("{}", run.trace.join("\n"));
    }
    if !run.violations.is_empty() {
        totals.violated += 1;
        if totals.violated <= MAX_SHOWN {
            println!("\nVIOLATED: {}", schedule.name);
            println!("replay with: cargo xtask crash-matrix {} --trace", schedule.name);
            for violation in &run.violations {
                println!("  {violation}");
            }
        }
    }
    run.calls
}
