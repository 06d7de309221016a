//! Measures start times: from the start of a process to its first request for an event.

use std::time::Duration;

use crate::{
    deployment::Deployment,
    figures::{InitFigures, Quantiles},
    function::{Function, Program},
};

/// Starts each program `starts` times. The programs take turns.
pub fn measure(
    programs: &[Program],
    starts: usize,
    deployment: &Deployment,
) -> anyhow::Result<Vec<InitFigures>> {
    let mut times: Vec<Vec<Duration>> = programs.iter().map(|_| Vec::new()).collect();
    // The first start of each program reads the binary from the disk and is not counted.
    for start in 0..=starts {
        for (program, times) in programs.iter().zip(&mut times) {
            let init = Function::start(program, deployment)?.init;
            if start > 0 {
                times.push(init);
            }
        }
    }
    let figures = programs.iter().zip(&times).map(|(program, times)| InitFigures {
        program: program.name.clone(),
        time_us: Quantiles::of(times),
        starts,
    });
    Ok(figures.collect())
}
