//! What one record needs on its way to `completed`: the counts that a quota or a price applies to.

use crate::load::{Load, WorkflowType};

/// State transitions of an execution. A drift test counts them in the definition.
pub const TRANSITIONS: u32 = 14;
/// Functions that run: ingest, archive, metadata and aggregate.
pub const INVOCATIONS: u32 = 4;
/// Notifications: received, archived, metadata-stored and completed. A drift test counts them in the definition.
pub const PUBLISHES: u32 = 4;

/// Objects in the archive: the payload and the manifest of its attempt.
pub(crate) const OBJECTS: u32 = 2;

/// The metadata of `events/archive/valid.json`, whose stored sizes the numbers below are, in bytes.
const SAMPLE_METADATA: f64 = 172.0;
/// Log lines of the functions and the access log, in bytes. An estimate.
pub(crate) const LOG_BYTES: f64 = 3600.0;
/// `StartExecution` and its answer, the only exchange of a record through an interface endpoint, in bytes. An estimate.
pub(crate) const ENDPOINT_BYTES: f64 = 3500.0;
/// A receipt with its headers, in bytes. An estimate.
pub(crate) const ANSWER_BYTES: f64 = 1000.0;
/// Traces: API Gateway and the workflow sample one record in twenty each.
pub(crate) const TRACES: f64 = 0.1;
/// The memory that an EXPRESS execution is charged for, in GB: 50 MB and the definition, in steps of 64 MB.
pub(crate) const EXPRESS_GB: f64 = 64.0 / 1024.0;
/// How long the cache holds a payload whose workflow takes a second, in seconds: docs/performance.md.
pub(crate) const SECONDS_IN_CACHE: f64 = 1.03;
/// The smallest object that S3 moves to a colder class, in bytes.
pub(crate) const SMALLEST_COLD_OBJECT: f64 = 131_072.0;

/// Write units of a record, by table.
#[derive(Debug)]
pub(crate) struct WriteUnits {
    /// The open-record table: put and delete.
    pub(crate) open: f64,
    /// Its index `Due`.
    pub(crate) due: f64,
    /// The record table: put and complete.
    pub(crate) record: f64,
    /// Each of its two indexes.
    pub(crate) record_index: f64,
    /// The idempotency table.
    pub(crate) claim: f64,
}

impl WriteUnits {
    pub(crate) fn of(load: &Load) -> Self {
        // DynamoDB charges 1 unit per KB, and twice that in a transaction.
        let units = |sample: f64| ((sample - SAMPLE_METADATA + load.metadata) / 1024.0).ceil();
        let (open, transaction) = if load.keyed { (1254.0, 2.0) } else { (1176.0, 1.0) };
        Self {
            open: units(open) * transaction + units(open),
            due: 2.0,
            record: units(1112.0) + units(1258.0),
            record_index: 2.0,
            claim: if load.keyed { 2.0 } else { 0.0 },
        }
    }

    pub(crate) fn total(&self) -> f64 {
        self.open + self.due + self.record + 2.0 * self.record_index + self.claim
    }
}

/// Returns the write units of a record in all tables.
pub fn write_units(load: &Load) -> f64 {
    WriteUnits::of(load).total()
}

/// Bytes that a record's item and its index entries take, with DynamoDB's 100 bytes for each.
pub(crate) fn item_bytes(load: &Load) -> f64 {
    1258.0 - SAMPLE_METADATA + load.metadata + 250.0 + 207.0 + 300.0
}

/// Bytes of a record's manifest.
pub(crate) fn manifest_bytes(load: &Load) -> f64 {
    1236.0 - SAMPLE_METADATA + load.metadata
}

/// How long a function runs for one record, in seconds, and its memory in GB. An estimate: the local times of docs/performance.md, and
/// for each service the median of `tools/bench/src/latencies.rs`.
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) gb: f64,
}

pub(crate) fn runs(load: &Load) -> [Run; 4] {
    let mb = load.size / 1e6;
    let run =
        |milliseconds: f64, memory_mb: f64| Run { seconds: milliseconds / 1000.0, gb: memory_mb / 1024.0 };
    [run(46.0 + 18.3 * mb, 1769.0), archive(mb), run(7.0, 256.0), run(12.0, 256.0)]
}

fn archive(mb: f64) -> Run {
    Run { seconds: (51.0 + 15.0 * mb) / 1000.0, gb: 1.0 }
}

/// How long archive runs for one record, in seconds.
pub(crate) fn archive_seconds(load: &Load) -> f64 {
    archive(load.size / 1e6).seconds
}

/// How long an EXPRESS execution is charged for, in seconds: rounded up to a tenth.
pub(crate) fn express_seconds(load: &Load) -> f64 {
    debug_assert_eq!(load.workflow, WorkflowType::Express);
    ((0.146 + archive_seconds(load)) * 10.0).ceil() / 10.0
}
