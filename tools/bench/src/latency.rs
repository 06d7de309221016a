//! Measures records one after the other: a function and its baseline take turns.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    allocations,
    case::Case,
    deployment::Deployment,
    figures::{LatencyFigures, Side, TimeFigures},
    function::Program,
    turns::{self, Participant},
};

/// Measures a case with `records` records on each side. `before` is the folder of another build of the function, which
/// takes turns with this build.
pub fn measure(
    case: &Case,
    records: usize,
    deployment: &Deployment,
    folder: &Path,
    before: Option<&Path>,
) -> anyhow::Result<LatencyFigures> {
    let mut redis = deployment.redis()?;
    let mut participants: Vec<Participant> = vec![Program::function(case.function, folder).into()];
    if case.has_baseline {
        participants.push(Program::baseline(case.function, folder).into());
    }
    if let Some(folder) = before {
        participants.push(Program::before(case.function, folder).into());
    }
    let outcomes = turns::run(case, &participants, records, deployment, &mut redis)?;
    let mut sides = Vec::new();
    for (participant, outcome) in participants.iter().zip(outcomes) {
        sides.push(Side {
            times: TimeFigures::of(&outcome.times),
            cpu_us: outcome.cpu_us,
            peak_memory_bytes: outcome.peak_memory_bytes,
            allocations: allocations::per_record(&participant.program, deployment, |function| {
                case.invoke(function, deployment, &mut redis).map(drop)
            })?,
        });
    }
    let mut sides = sides.into_iter();
    Ok(LatencyFigures {
        function: case.name.to_owned(),
        size: case.size.to_owned(),
        size_bytes: case.size_bytes,
        payload_bytes: case.decoded_bytes(),
        records,
        measured: sides.next().context("a function was measured")?,
        baseline: if case.has_baseline { sides.next() } else { None },
        before: sides.next(),
    })
}
