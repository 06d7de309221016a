//! Measures the time to a receipt while Step Functions is slow. A receipt waits for nothing that it does not promise,
//! so a slow `StartExecution` must not delay it.
//!
//! Two processes of ingest take turns. Each uses another stub: one stub answers `StartExecution` at once, the other
//! answers it late.

use std::{path::Path, time::Duration};

use anyhow::anyhow;

use crate::{
    aws_stub::{AwsStub, Behaviour},
    case::Case,
    deployment::Deployment,
    figures::{StartDelayFigures, TimeFigures},
    function::Program,
    turns::{self, Participant},
};

/// The latency of the late answer to `StartExecution`.
pub const DELAY: Duration = Duration::from_millis(300);

/// Measures ingest of an event of this size, with `records` records on each side.
pub fn measure(
    size_bytes: usize,
    size: &'static str,
    records: usize,
    deployment: &Deployment,
    folder: &Path,
) -> anyhow::Result<StartDelayFigures> {
    let stub = |latency| -> anyhow::Result<AwsStub> {
        let latencies = deployment.latencies().clone().with("StartExecution", latency);
        deployment.another_stub(Behaviour { latencies, ..Behaviour::default() })
    };
    // The side without the delay pauses for as long as the delay, so that the machine is idle for the same time on both
    // sides.
    let participants =
        [(stub(Duration::ZERO)?, DELAY), (stub(DELAY)?, Duration::ZERO)].map(|(stub, rest)| Participant {
            program: Program::function("ingest", folder),
            variables: vec![("AWS_ENDPOINT_URL", stub.endpoint())],
            rest,
        });
    let case = Case::ingest(size_bytes, size);
    let outcomes = turns::run(&case, &participants, records, deployment, &mut deployment.redis()?)?;
    let [prompt, delayed] = <[_; 2]>::try_from(outcomes).map_err(|_| anyhow!("two sides take turns"))?;
    Ok(StartDelayFigures {
        size: size.to_owned(),
        size_bytes,
        records,
        delay_us: DELAY.as_secs_f64() * 1e6,
        prompt: TimeFigures::of(&prompt.times),
        delayed: TimeFigures::of(&delayed.times),
    })
}
