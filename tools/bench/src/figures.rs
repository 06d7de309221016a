//! What is measured, as the JSON report has it. Times are in microseconds, sizes in bytes.

use std::time::Duration;

use serde::Serialize;

use crate::{function::Times, primitives::Speed};

/// A whole run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Processor, cores and kernel.
    pub machine: String,
    /// Whether the processor has instructions for SHA-256.
    pub has_sha_instructions: bool,
    /// How fast libraries hash and decode here.
    pub primitives: Vec<Speed>,
    /// How it was run.
    pub command: String,
    /// Start times, by program.
    pub init: Vec<InitFigures>,
    /// Records one after the other, by function and size.
    pub latency: Vec<LatencyFigures>,
    /// The time to a receipt while Step Functions is slow, by size.
    pub start_delay: Vec<StartDelayFigures>,
    /// Several requests in one process of ingest.
    pub several: Vec<SeveralFigures>,
    /// Records side by side, by program and number of processes.
    pub throughput: Vec<ThroughputFigures>,
    /// The targets, and whether this run met them.
    pub goals: Vec<Goal>,
}

/// How long a program takes from its start to its first request for an event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitFigures {
    /// The program.
    pub program: String,
    /// The times.
    pub time_us: Quantiles,
    /// How many starts.
    pub starts: usize,
}

/// A function and its baseline at one size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyFigures {
    /// The function.
    pub function: String,
    /// The size, as people call it.
    pub size: String,
    /// The size of what grows: the event of ingest, the payload of archive.
    pub size_bytes: usize,
    /// The size of the payload as it is kept.
    pub payload_bytes: usize,
    /// How many records each side dealt with.
    pub records: usize,
    /// The function's side.
    pub measured: Side,
    /// The baseline's side; `None` for functions that move no bytes, which have none.
    pub baseline: Option<Side>,
}

impl LatencyFigures {
    /// The function's median time to the response, in units of the baseline's.
    pub fn ack_ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.measured.times.ack_us.p50 / baseline.times.ack_us.p50)
    }

    /// The function's CPU time, in units of the baseline's.
    pub fn cpu_ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.measured.cpu_us / baseline.cpu_us)
    }
}

/// Ingest with a `StartExecution` that is answered at once, beside ingest with one that is answered late.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartDelayFigures {
    /// The size, as people call it.
    pub size: String,
    /// The size of the event.
    pub size_bytes: usize,
    /// How many records each side dealt with.
    pub records: usize,
    /// How long the late answer takes.
    pub delay_us: f64,
    /// The side whose executions start at once.
    pub prompt: TimeFigures,
    /// The side whose executions start late.
    pub delayed: TimeFigures,
}

impl StartDelayFigures {
    /// How much later the median receipt comes, in microseconds; `None` where the whole invocation did not become longer
    /// by the delay: then nothing was delayed.
    pub fn ack_shift_us(&self) -> Option<f64> {
        let added = self.delayed.whole_us.p50 - self.prompt.whole_us.p50;
        (added > self.delay_us * 0.9).then_some(self.delayed.ack_us.p50 - self.prompt.ack_us.p50)
    }
}

/// One process of ingest with several requests at once.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeveralFigures {
    /// How many requests at once.
    pub concurrency: u32,
    /// The sizes of the requests, for people.
    pub requests: String,
    /// How many requests the times are of: the small ones, where there are others.
    pub records: usize,
    /// From the last byte of the event to the last byte of the response.
    pub ack_us: Quantiles,
    /// Records per second, all of them together.
    pub records_per_second: f64,
    /// The most memory that was resident.
    pub peak_memory_bytes: u64,
}

/// The times of some invocations.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeFigures {
    /// From the last byte of the event to the last byte of the response.
    pub ack_us: Quantiles,
    /// From the first byte of the event until the next event is asked for.
    pub whole_us: Quantiles,
}

impl TimeFigures {
    /// Of some invocations, of which there must be one.
    pub fn of(times: &[Times]) -> Self {
        let quantiles =
            |time: fn(&Times) -> Duration| Quantiles::of(&times.iter().map(time).collect::<Vec<_>>());
        Self { ack_us: quantiles(|times| times.ack), whole_us: quantiles(|times| times.whole) }
    }
}

/// One program at one size.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// How long an invocation takes.
    #[serde(flatten)]
    pub times: TimeFigures,
    /// CPU time per record, in user and kernel mode, work after the response included.
    pub cpu_us: f64,
    /// The most memory that was resident.
    pub peak_memory_bytes: u64,
    /// Allocations per record; `None` where the machine has no `libmemusage.so`.
    pub allocations: Option<Allocations>,
}

/// What a program asks its allocator for, per record.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocations {
    /// Calls of `malloc`, `calloc` and `realloc`.
    pub calls: f64,
    /// Bytes asked for by them.
    pub bytes: f64,
}

/// Several processes of one program at once.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThroughputFigures {
    /// The program.
    pub program: String,
    /// The size, as people call it.
    pub size: String,
    /// How many processes.
    pub processes: usize,
    /// How many shards the cache has.
    pub shards: usize,
    /// Records per second, together.
    pub records_per_second: f64,
    /// Event bytes per second, together, in units of 10^6.
    pub megabytes_per_second: f64,
}

/// A target and how it was met.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Goal {
    /// What must be small enough.
    pub name: &'static str,
    /// The largest value that meets it.
    pub limit: f64,
    /// The value; `None` where the run did not measure it.
    pub value: Option<f64>,
    /// What both are in: `x` for ratios, `ms`, `MB`.
    pub unit: &'static str,
}

impl Goal {
    /// Whether it was measured and met.
    pub fn is_met(&self) -> bool {
        self.value.is_some_and(|value| value <= self.limit)
    }
}

/// Median and tail of some times, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Quantiles {
    /// Of some times, of which there must be one.
    pub fn of(times: &[Duration]) -> Self {
        let mut micros: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        micros.sort_by(f64::total_cmp);
        Self { p50: quantile(&micros, 0.5), p99: quantile(&micros, 0.99) }
    }
}

/// A quantile of sorted values, by the nearest rank.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)),
            (50.0, 99.0, 100.0)
        );
        assert!((quantile(&[7.0], 0.99) - 7.0).abs() < f64::EPSILON);
    }
}
