//! Records one after the other: a function and its floor take turns.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};

use crate::{
    allocations,
    deployment::Deployment,
    figures::{LatencyFigures, Quantiles, Side},
    function::{Function, Program},
    redis_link::RedisLink,
    runtime_api::Invocation,
    workload::{self, Event},
};

/// A function at one size.
#[derive(Debug)]
pub struct Case {
    /// What it is called.
    name: &'static str,
    function: &'static str,
    size: &'static str,
    size_bytes: usize,
    event: Event,
    /// The record that the function finds in Redis: its key and payload.
    cached: Option<(String, Vec<u8>)>,
    /// What an answer must contain.
    expected: &'static str,
    has_floor: bool,
}

impl Case {
    /// Ingest of an event of this size.
    pub fn ingest(size_bytes: usize, size: &'static str) -> Self {
        Self {
            name: "ingest",
            function: "ingest",
            size,
            size_bytes,
            event: workload::ingest_event(size_bytes, None),
            cached: None,
            expected: "replicated",
            has_floor: true,
        }
    }

    /// The same of a request with an idempotency key that nobody has used before.
    pub fn ingest_with_key(size_bytes: usize, size: &'static str) -> Self {
        Self {
            name: "ingest, idempotency key",
            // What the cache knows of the key goes with the record, before the next request.
            event: workload::ingest_event(size_bytes, Some("3f1c9a52")),
            ..Self::ingest(size_bytes, size)
        }
    }

    /// Archive of a payload of this size.
    pub fn archive(size_bytes: usize, size: &'static str) -> Self {
        let record = workload::cached_record(size_bytes);
        Self {
            name: "archive",
            function: "archive",
            size,
            size_bytes,
            event: record.event,
            cached: Some((record.key, record.payload)),
            expected: "S3Reference",
            has_floor: true,
        }
    }

    /// Metadata of a record.
    pub fn metadata() -> Self {
        Self::without_payload("metadata", workload::cached_record(1).event, "metaDataReference")
    }

    /// Completion of a record.
    pub fn aggregate() -> Self {
        Self::without_payload("aggregate", workload::aggregate_event(), "completedAt")
    }

    /// A function that the size of a payload makes no difference to, because it sees none.
    fn without_payload(function: &'static str, event: Event, expected: &'static str) -> Self {
        let size_bytes = event.text.len();
        let (name, cached) = (function, None);
        Self { name, function, size: "any", size_bytes, event, cached, expected, has_floor: false }
    }

    /// The size of what grows.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The same, with a floor that moves as many bytes as the payload has when it is decoded.
    #[must_use]
    pub fn with_decoded_floor(mut self) -> Self {
        self.event.payload_bytes = self.event.decoded_bytes;
        self
    }

    fn invoke(&self, program: &mut Function, redis: &mut RedisLink) -> anyhow::Result<Times> {
        let invocation = Invocation { event: &self.event.text, payload_bytes: self.event.payload_bytes };
        let answer = program.invoke(&invocation)?;
        let text = String::from_utf8_lossy(&answer.body);
        if !text.contains(self.expected) {
            bail!("{self} answered {text}");
        }
        // What a record leaves in Redis goes before the next one comes, outside of every measured time.
        if self.cached.is_none() {
            redis.run(&[b"FLUSHALL"])?;
            redis.run(&[b"WAIT", b"1", b"1000"])?;
        }
        Ok(Times { wall: answer.wall, whole: answer.whole })
    }

    fn prepare(&self, redis: &mut RedisLink) -> anyhow::Result<()> {
        redis.run(&[b"FLUSHALL"])?;
        if let Some((key, payload)) = &self.cached {
            redis.run(&[b"HSET", key.as_bytes(), b"payload", payload])?;
        }
        redis.run(&[b"WAIT", b"1", b"1000"])?;
        Ok(())
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.name, self.size)
    }
}

struct Times {
    wall: Duration,
    whole: Duration,
}

/// Records before the measured ones: the first makes the connections, and pages are touched.
const WARM_UP: usize = 5;

/// Measures a case with so many records on each side.
pub fn measure(
    case: &Case,
    records: usize,
    deployment: &Deployment,
    folder: &Path,
) -> anyhow::Result<LatencyFigures> {
    let mut redis = deployment.redis()?;
    case.prepare(&mut redis)?;
    let mut programs = vec![Program::function(case.function, folder)];
    if case.has_floor {
        programs.push(Program::floor(case.function, folder));
    }
    let mut running = programs
        .iter()
        .map(|program| Function::start(program, deployment))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for program in &mut running {
        for _ in 0..WARM_UP {
            case.invoke(program, &mut redis)?;
        }
    }
    let before = running.iter().map(Function::cpu_time).collect::<anyhow::Result<Vec<_>>>()?;
    let mut times: Vec<Vec<Times>> = running.iter().map(|_| Vec::with_capacity(records)).collect();
    for record in 0..records {
        for turn in 0..running.len() {
            // Neither side is always the one that comes second.
            let side = (record + turn) % running.len();
            times[side].push(case.invoke(&mut running[side], &mut redis)?);
        }
    }
    let mut sides = Vec::new();
    for (side, (program, running)) in programs.iter().zip(running).enumerate() {
        let quantiles =
            |time: fn(&Times) -> Duration| Quantiles::of(&times[side].iter().map(time).collect::<Vec<_>>());
        #[expect(clippy::cast_precision_loss, reason = "a count of records")]
        let cpu_us = running.cpu_time()?.saturating_sub(before[side]).as_secs_f64() * 1e6 / records as f64;
        sides.push(Side {
            wall_us: quantiles(|times| times.wall),
            whole_us: quantiles(|times| times.whole),
            cpu_us,
            peak_memory_bytes: running.peak_memory_bytes()?,
            allocations: allocations::per_record(program, deployment, |function| {
                case.invoke(function, &mut redis).map(drop)
            })?,
        });
    }
    let mut sides = sides.into_iter();
    Ok(LatencyFigures {
        function: case.name.to_owned(),
        size: case.size.to_owned(),
        size_bytes: case.size_bytes,
        records,
        measured: sides.next().context("a function was measured")?,
        floor: sides.next(),
    })
}
