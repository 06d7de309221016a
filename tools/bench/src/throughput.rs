//! Measures records side by side: several processes of one program use one cache, on one machine.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;

use crate::{
    deployment::Deployment,
    figures::ThroughputFigures,
    function::{Function, Program},
    latencies::Latencies,
    runtime_api::Invocation,
    workload::Event,
};

/// The numbers of processes to measure.
pub const PROCESSES: [usize; 5] = [1, 2, 4, 8, 16];

/// The time between two clearings of the cache, which keep the stored payloads from filling the machine's memory.
const CLEAR_INTERVAL: Duration = Duration::from_millis(250);

/// Measures ingest and its baseline with each number of processes, for `time` each.
pub fn measure(
    size_bytes: usize,
    size: &str,
    processes: &[usize],
    time: Duration,
    deployment: &Deployment,
    folder: &Path,
    mut done: impl FnMut(),
) -> anyhow::Result<Vec<ThroughputFigures>> {
    let event = Event::of_ingest(size_bytes);
    let mut figures = Vec::new();
    for &processes in processes {
        // Ingest runs first, because the baseline is given the size of ingest's acceptances.
        for program in [Program::function("ingest", folder), Program::baseline("ingest", folder)] {
            let rate = rate(&program, processes, &event, time, deployment)?;
            figures.push(figure(program, size, &event, processes, 1, rate));
            done();
        }
    }
    Ok(figures)
}

/// Measures ingest with `processes` processes on a cache of two shards.
pub fn measure_two_shards(
    size_bytes: usize,
    size: &str,
    processes: usize,
    time: Duration,
    folder: &Path,
) -> anyhow::Result<ThroughputFigures> {
    let (event, program) = (Event::of_ingest(size_bytes), Program::function("ingest", folder));
    let deployment = Deployment::start_with_shards(2, Latencies::default())?;
    let rate = rate(&program, processes, &event, time, &deployment)?;
    Ok(figure(program, size, &event, processes, 2, rate))
}

fn figure(
    program: Program,
    size: &str,
    event: &Event,
    processes: usize,
    shards: usize,
    records_per_second: f64,
) -> ThroughputFigures {
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    let megabytes_per_second = records_per_second * event.text.len() as f64 / 1e6;
    let size = size.to_owned();
    ThroughputFigures {
        program: program.name,
        size,
        processes,
        shards,
        records_per_second,
        megabytes_per_second,
    }
}

/// Returns the records per second of all processes together.
fn rate(
    program: &Program,
    processes: usize,
    event: &Event,
    time: Duration,
    deployment: &Deployment,
) -> anyhow::Result<f64> {
    let invocation = Invocation {
        event: &event.text,
        payload_bytes: event.payload_bytes,
        acceptance_bytes: deployment.stub().acceptance_bytes(),
    };
    let mut functions = Vec::new();
    for _ in 0..processes {
        let mut function = Function::start(program, deployment)?;
        function.invoke(&invocation)?;
        functions.push(function);
    }
    let mut primaries = deployment.primaries()?;
    let mut sweep = |how: &[&[u8]]| primaries.iter_mut().try_for_each(|redis| redis.run(how).map(drop));
    sweep(&[b"FLUSHALL"])?;
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let drive = |mut function: Function| -> anyhow::Result<u32> {
        let mut records = 0;
        while !over.load(Ordering::Relaxed) {
            function.invoke(&invocation)?;
            records += 1;
        }
        Ok(records)
    };
    let (records, elapsed) = thread::scope(|scope| {
        let drive = &drive;
        let drivers: Vec<_> =
            functions.into_iter().map(|function| scope.spawn(move || drive(function))).collect();
        let mut swept = Ok(());
        while begun.elapsed() < time && swept.is_ok() {
            thread::sleep(CLEAR_INTERVAL.min(time));
            swept = sweep(&[b"FLUSHALL", b"ASYNC"]);
        }
        over.store(true, Ordering::Relaxed);
        let elapsed = begun.elapsed();
        let mut records = 0;
        for driver in drivers {
            records += driver.join().map_err(|_| anyhow!("a driver panicked"))??;
        }
        swept.map(|()| (records, elapsed))
    })?;
    sweep(&[b"FLUSHALL"])?;
    Ok(f64::from(records) / elapsed.as_secs_f64())
}
