//! The measured figures, in the form of the JSON report. Times are in microseconds, sizes in bytes.

use std::time::Duration;

use serde::Serialize;

use crate::{function::Times, primitives::Speed};

/// The figures of a whole run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Processor, cores and kernel.
    pub machine: String,
    /// Whether the processor has instructions for SHA-256.
    pub has_sha_instructions: bool,
    /// The speed at which libraries hash and decode on this machine.
    pub primitives: Vec<Speed>,
    /// The command line of the run.
    pub command: String,
    /// Start times, by program.
    pub init: Vec<InitFigures>,
    /// Records one after the other, by function and size.
    pub latency: Vec<LatencyFigures>,
    /// The time to a receipt while Step Functions is slow, by size.
    pub start_delay: Vec<StartDelayFigures>,
    /// Several requests in one process of ingest.
    pub several: Vec<ConcurrentRequestFigures>,
    /// Records side by side, by program and number of processes.
    pub throughput: Vec<ThroughputFigures>,
    /// The targets, and whether this run met them.
    pub goals: Vec<Goal>,
}

/// The time that a program takes from its start to its first request for an event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitFigures {
    /// The program.
    pub program: String,
    /// The quantiles of the start times.
    pub time_us: Quantiles,
    /// The number of starts.
    pub starts: usize,
}

/// A function and its baseline at one size.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyFigures {
    /// The name of the case.
    pub function: String,
    /// The size as text, such as `6 MB`.
    pub size: String,
    /// The size in bytes: of the payload for archive, of the event for every other function.
    pub size_bytes: usize,
    /// The size of the decoded payload.
    pub payload_bytes: usize,
    /// The number of records on each side.
    pub records: usize,
    /// The figures of the function.
    pub measured: Side,
    /// The figures of the baseline; `None` for functions that move no payload and therefore have no baseline.
    pub baseline: Option<Side>,
    /// The figures of another build of the function; `None` if the run compared no builds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Side>,
}

impl LatencyFigures {
    /// Returns the function's median time to the response, divided by the baseline's.
    pub fn ack_ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.measured.times.ack_us.p50 / baseline.times.ack_us.p50)
    }

    /// Returns the function's CPU time, divided by the baseline's.
    pub fn cpu_ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.measured.cpu_us / baseline.cpu_us)
    }
}

/// Compares ingest with a prompt answer to `StartExecution` and ingest with a late one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartDelayFigures {
    /// The size as text, such as `6 MB`.
    pub size: String,
    /// The size of the event.
    pub size_bytes: usize,
    /// The number of records on each side.
    pub records: usize,
    /// The latency of the late answer.
    pub delay_us: f64,
    /// The times with a prompt answer.
    pub prompt: TimeFigures,
    /// The times with a late answer.
    pub delayed: TimeFigures,
}

impl StartDelayFigures {
    /// Returns how much later the median receipt comes, in microseconds. Returns `None` if the whole invocation did not
    /// become longer by the delay, because nothing was delayed then.
    pub fn ack_shift_us(&self) -> Option<f64> {
        let added = self.delayed.whole_us.p50 - self.prompt.whole_us.p50;
        (added > self.delay_us * 0.9).then_some(self.delayed.ack_us.p50 - self.prompt.ack_us.p50)
    }
}

/// The figures of one process of ingest with several concurrent requests.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrentRequestFigures {
    /// The number of concurrent requests.
    pub concurrency: u32,
    /// The sizes of the requests, as text.
    pub requests: String,
    /// The number of requests that the times were measured on. In a mix of sizes, these are the small requests.
    pub records: usize,
    /// From the last byte of the event to the last byte of the response.
    pub ack_us: Quantiles,
    /// Records per second, of all requests together.
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
    /// From the first byte of the event until the program asks for the next event.
    pub whole_us: Quantiles,
}

impl TimeFigures {
    /// Returns the figures of these invocations. There must be at least one.
    pub fn of(times: &[Times]) -> Self {
        let quantiles =
            |time: fn(&Times) -> Duration| Quantiles::of(&times.iter().map(time).collect::<Vec<_>>());
        Self { ack_us: quantiles(|times| times.ack), whole_us: quantiles(|times| times.whole) }
    }
}

/// The figures of one program at one size.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Side {
    /// The times of the invocations.
    #[serde(flatten)]
    pub times: TimeFigures,
    /// CPU time per record, in user and kernel mode, work after the response included.
    pub cpu_us: f64,
    /// The most memory that was resident.
    pub peak_memory_bytes: u64,
    /// Allocations per record; `None` where the machine has no `libmemusage.so`.
    pub allocations: Option<Allocations>,
}

/// The memory that a program requests from its allocator, per record.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocations {
    /// Calls of `malloc`, `calloc` and `realloc`.
    pub calls: f64,
    /// Bytes that these calls request.
    pub bytes: f64,
}

/// The figures of several concurrent processes of one program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThroughputFigures {
    /// The program.
    pub program: String,
    /// The size as text, such as `6 MB`.
    pub size: String,
    /// The number of processes.
    pub processes: usize,
    /// The number of shards of the cache.
    pub shards: usize,
    /// Records per second, of all processes together.
    pub records_per_second: f64,
    /// Event bytes per second, of all processes together, in units of 10^6.
    pub megabytes_per_second: f64,
}

/// A target and the measured value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Goal {
    /// The name of the value that must not exceed the limit.
    pub name: &'static str,
    /// The largest value that meets the target.
    pub limit: f64,
    /// The measured value; `None` if the run did not measure it.
    pub value: Option<f64>,
    /// The unit of limit and value: `x` for ratios, `ms`, `MB`.
    pub unit: &'static str,
}

impl Goal {
    /// Returns whether the target was measured and met.
    pub fn is_met(&self) -> bool {
        self.value.is_some_and(|value| value <= self.limit)
    }
}

/// Median and 99th percentile of some times, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Quantiles {
    /// Returns the quantiles of these times. There must be at least one.
    pub fn of(times: &[Duration]) -> Self {
        let mut micros: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        micros.sort_by(f64::total_cmp);
        Self { p50: quantile(&micros, 0.5), p99: quantile(&micros, 0.99) }
    }
}

/// Returns a quantile of sorted values, by the nearest rank.
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
