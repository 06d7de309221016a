//! `load`: sends many records concurrently, checks each, and prints a table of latencies.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use comfy_table::{CellAlignment, Table, presets};
use custody_test_client::{
    deployment::Deployment,
    records::{Kind, Record, Size},
    sender::Sender,
    subscriber::Subscriber,
    verify,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::Semaphore, task::JoinSet};

/// When to stop sending: after a number of records, or after a time.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    Records(usize),
    Time(Duration),
}

impl Amount {
    fn is_reached(self, records: usize, elapsed: Duration) -> bool {
        match self {
            Self::Records(count) => records >= count,
            Self::Time(time) => elapsed >= time,
        }
    }

    fn progress_bar(self) -> anyhow::Result<ProgressBar> {
        let (bar, template) = match self {
            Self::Records(count) => {
                (ProgressBar::new(count as u64), "{bar:40} {pos}/{len} records, {per_sec}, {eta} left")
            }
            Self::Time(_) => (ProgressBar::new_spinner(), "{spinner} {pos} records, {per_sec}, {elapsed}"),
        };
        bar.set_style(ProgressStyle::with_template(template)?);
        Ok(bar)
    }
}

/// What to send, how much, and how.
pub(crate) struct Plan {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) sizes: Vec<Size>,
    pub(crate) amount: Amount,
    pub(crate) concurrency: usize,
    pub(crate) seed: u64,
    pub(crate) timeout: Duration,
}

impl Plan {
    fn record(&self, i: usize) -> anyhow::Result<Record> {
        if !self.files.is_empty() {
            return Record::from_file(&self.files[i % self.files.len()]);
        }
        let (kind, size) =
            (self.kinds[i % self.kinds.len()], self.sizes[i / self.kinds.len() % self.sizes.len()]);
        Ok(Record::generate(kind, size, self.seed + i as u64))
    }
}

/// Result of one record: the times until it was acknowledged, archived and completed, or the failure.
struct Outcome {
    label: String,
    bytes: usize,
    latencies: anyhow::Result<[Duration; 3]>,
}

pub(crate) async fn run(deployment: &Deployment, plan: Plan) -> anyhow::Result<bool> {
    let subscriber = Subscriber::start(deployment)?;
    let sender = Sender::new(deployment)?;
    let gate = Arc::new(Semaphore::new(plan.concurrency.max(1)));
    let bar = plan.amount.progress_bar()?;

    let started = Instant::now();
    let mut tasks = JoinSet::new();
    let mut results = Results::default();
    for i in 0.. {
        let permit = Arc::clone(&gate).acquire_owned().await?;
        if plan.amount.is_reached(i, started.elapsed()) {
            break;
        }
        let record = plan.record(i)?;
        let (sender, subscriber, deployment, timeout) =
            (sender.clone(), subscriber.clone(), deployment.clone(), plan.timeout);
        tasks.spawn(async move {
            let label = record.label.clone();
            let acknowledged = sender.send(&record).await;
            // The limit applies to concurrent requests only, because following a record costs little.
            drop(permit);
            let latencies = async {
                let acknowledged = acknowledged?;
                let arrivals = subscriber.follow(acknowledged.receipt.message_id, timeout).await?;
                verify::check_completed(&deployment, &record, &acknowledged.receipt, &arrivals).await?;
                let after = |stage: &str| {
                    let arrival = arrivals.iter().find(|arrival| arrival.stage() == stage);
                    arrival.map_or(Duration::ZERO, |arrival| {
                        arrival.at.saturating_duration_since(acknowledged.sent_at)
                    })
                };
                Ok([acknowledged.latency, after("archived"), after("completed")])
            };
            Outcome { label, bytes: record.payload.len(), latencies: latencies.await }
        });
        while let Some(finished) = tasks.try_join_next() {
            results.add(finished?, &bar);
        }
    }
    while let Some(finished) = tasks.join_next().await {
        results.add(finished?, &bar);
    }
    bar.finish_and_clear();
    results.print(started.elapsed());
    Ok(results.failures.is_empty())
}

/// Results of all records, by label.
#[derive(Default)]
struct Results {
    good: BTreeMap<(usize, String), Vec<[Duration; 3]>>,
    bytes: usize,
    failures: Vec<String>,
}

impl Results {
    fn add(&mut self, outcome: Outcome, bar: &ProgressBar) {
        bar.inc(1);
        match outcome.latencies {
            Ok(latencies) => {
                self.bytes += outcome.bytes;
                // The first part of the key is the size in units of 4 KB, because images of one nominal size differ by
                // a few bytes.
                self.good.entry((outcome.bytes >> 12, outcome.label)).or_default().push(latencies);
            }
            Err(error) => {
                let failure = format!("{}: {error:#}", outcome.label);
                bar.suspend(|| println!("✗ {failure}"));
                self.failures.push(failure);
            }
        }
    }

    fn print(&self, elapsed: Duration) {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "record (ms)",
            "count",
            "ack p50",
            "ack p99",
            "archived p50",
            "archived p99",
            "completed p50",
            "completed p99",
        ]);
        let all: Vec<_> = self.good.values().flatten().copied().collect();
        let kinds = self.good.iter().map(|((_, label), latencies)| (label.as_str(), latencies));
        for (label, latencies) in kinds.chain((self.good.len() > 1).then_some(("all", &all))) {
            let mut row = vec![label.to_owned(), latencies.len().to_string()];
            for of in 0..3 {
                let mut sorted: Vec<_> = latencies.iter().map(|latencies| latencies[of]).collect();
                sorted.sort_unstable();
                row.extend([50, 99].map(|percent| percentile(&sorted, percent).as_millis().to_string()));
            }
            table.add_row(row);
        }
        for column in 1..8 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        if !self.good.is_empty() {
            println!("{table}");
        }
        let count: usize = self.good.values().map(Vec::len).sum();
        let seconds = elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for a person")]
        let (records, megabytes) = (count as f64 / seconds, self.bytes as f64 / 1e6 / seconds);
        println!(
            "{count} complete and equal to what was sent, {} not; {:.1} records/s, {:.1} MB/s over {seconds:.1} s",
            self.failures.len(),
            records,
            megabytes,
        );
    }
}

/// The value that `percent` of the sorted values do not exceed (nearest rank).
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_ends_with_its_records_or_with_its_time() {
        let (none, second) = (Duration::ZERO, Duration::from_secs(1));
        assert!(!Amount::Records(2).is_reached(1, second) && Amount::Records(2).is_reached(2, none));
        assert!(!Amount::Time(second).is_reached(99, none) && Amount::Time(second).is_reached(0, second));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let ms = |values: &[u64]| values.iter().map(|v| Duration::from_millis(*v)).collect::<Vec<_>>();
        assert_eq!(percentile(&ms(&[1, 2, 3, 4]), 50).as_millis(), 2);
        assert_eq!(percentile(&ms(&[1, 2, 3, 4]), 99).as_millis(), 4);
        assert_eq!(percentile(&ms(&[7]), 50).as_millis(), 7);
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
