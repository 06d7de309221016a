//! Measures the bytes that the cache holds at a steady rate of records: rate × size × the seconds until a payload is
//! removed.
//!
//! Ingest, archive, metadata and aggregate run in the order of the state machine, on the messages with which ingest
//! starts executions. The measured value is the size of the data in the cache's primary: once with a cache that removes
//! a payload when its record is completed, and once with a cache in which a payload stays for a grace period after
//! that.

mod workflow;

use std::{
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};

use self::workflow::Workflow;
use crate::{
    aws_stub::Behaviour,
    deployment::Deployment,
    figures::quantile,
    function::{Function, Program},
    latencies::duration,
    redis_link::RedisLink,
    runtime_api::Invocation,
    workload,
};

/// The load, and the time for which payloads stay in the cache.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Records per second.
    #[arg(long, default_value_t = 20)]
    pub rate: u32,
    /// The size of a record's event, in KB.
    #[arg(long, default_value_t = 256)]
    pub kilobytes: usize,
    /// The duration of the load, in seconds.
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
    /// The time from the start of an execution to its archive step.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub workflow_delay: Duration,
    /// The grace period, in the measurement with a grace period.
    #[arg(long, default_value = "5min", value_parser = duration)]
    pub grace: Duration,
}

/// When the cache removes the payload of a completed record.
#[derive(Clone, Copy, Debug)]
pub enum Retention {
    /// Aggregate unlinks the payload.
    Unlinked,
    /// The payload expires after a grace period.
    Grace(Duration),
}

/// What the cache holds under the load.
#[derive(Clone, Copy, Debug)]
pub struct CacheUsage {
    /// The number of payloads in the cache: the median of the last quarter of the time.
    pub payloads: f64,
    /// The bytes of these payloads and the cache's overhead: the median of the last quarter of the time.
    pub bytes: f64,
    /// Records per second that were accepted.
    pub rate: f64,
    /// The size of a payload.
    pub payload_bytes: usize,
}

impl CacheUsage {
    /// Returns the held bytes in seconds of load: divided by the payload bytes that arrive per second.
    pub fn seconds(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a size")]
        let bytes_per_second = self.rate * self.payload_bytes as f64;
        self.bytes / bytes_per_second
    }
}

/// The time between two samples of what the cache holds.
const INTERVAL: Duration = Duration::from_millis(100);

/// Measures what the cache holds under this load.
pub fn measure(
    load: &Load,
    retention: Retention,
    deployment: &Deployment,
    folder: &Path,
) -> anyhow::Result<CacheUsage> {
    let (sender, executions) = channel();
    let latencies = deployment.latencies().clone();
    let stub = deployment.another_stub(Behaviour { latencies, executions: Some(sender), slow: None })?;
    let mut ingest = Function::start_with(
        &Program::function("ingest", folder),
        deployment,
        &[("AWS_ENDPOINT_URL", stub.endpoint())],
        std::process::Stdio::inherit(),
    )?;
    let mut workflow = Workflow::start(deployment, folder, executions, load.workflow_delay, retention)?;
    let mut redis = deployment.redis()?;
    redis.clear()?;
    let empty = dataset_bytes(&mut redis)?;

    let records = load.rate * load.seconds;
    let event = workload::ingest_event(load.kilobytes * 1024, workload::Form::Base64);
    let invocation = Invocation {
        event: &event.text,
        payload_bytes: event.payload_bytes,
        acceptance_bytes: stub.acceptance_bytes(),
    };
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let (samples, ingested) = thread::scope(|scope| -> anyhow::Result<_> {
        let sampling = scope.spawn(|| sample(&mut redis, &over));
        let completing = scope.spawn(move || workflow.run(records));
        let mut ingested = Ok(());
        for record in 0..records {
            sleep_until(begun + Duration::from_secs(1) * record / load.rate);
            ingested = ingest.invoke(&invocation).map(drop);
            if ingested.is_err() {
                break;
            }
        }
        let elapsed = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        let samples = sampling.join().map_err(|_| anyhow!("the sampler panicked"))??;
        // After a failed ingest, the workflow fails as well, because it waits for executions that do not come. The
        // error of ingest is more useful, so it is returned first.
        let completed = completing.join().map_err(|_| anyhow!("the workflow panicked"))?;
        ingested.and(completed)?;
        Ok((samples, elapsed))
    })?;
    deployment.redis()?.clear()?;
    let last = &samples[samples.len() * 3 / 4..];
    let median = |value: fn(&Sample) -> f64| {
        let mut values: Vec<f64> = last.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    Ok(CacheUsage {
        payloads: median(|sample| sample.keys),
        bytes: median(|sample| sample.bytes) - empty,
        rate: f64::from(records) / ingested.as_secs_f64(),
        payload_bytes: event.decoded_bytes,
    })
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

struct Sample {
    keys: f64,
    bytes: f64,
}

fn sample(redis: &mut RedisLink, over: &AtomicBool) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while !over.load(Ordering::Relaxed) {
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let keys = redis.keys()? as f64;
        samples.push(Sample { keys, bytes: dataset_bytes(redis)? });
        thread::sleep(INTERVAL);
    }
    Ok(samples)
}

/// Returns the memory of the keys and their values, without buffers and the replication backlog.
fn dataset_bytes(redis: &mut RedisLink) -> anyhow::Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a size in memory")]
    let bytes = redis.info("memory", "used_memory_dataset").context("read the cache's size")? as f64;
    Ok(bytes)
}
