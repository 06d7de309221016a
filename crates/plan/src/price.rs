//! What a month costs, by component.

use serde::Serialize;

use crate::{
    cache::CachePlan,
    facts::Facts,
    load::{HOURS_PER_MONTH, Load, WorkflowType},
    record::{self, WriteUnits},
};

/// A component's price.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// What is paid for.
    pub of: &'static str,
    /// USD a month.
    pub usd_per_month: f64,
}

const GB: f64 = 1e9;
/// S3 and DynamoDB charge storage by the GiB, which they call GB.
const STORED_GB: f64 = 1_073_741_824.0;
/// Months after which S3 moves a payload to the class that is colder.
const MONTHS_UNTIL_COLD: f64 = 3.0;
/// Interface endpoints of the template, in two zones.
const ENDPOINTS: f64 = 5.0;
/// Secrets of the template: one for each user of the cache.
const SECRETS: f64 = 5.0;
/// Metrics of the functions, and detailed metrics of the API.
const METRICS: f64 = 36.0;
/// Alarms of the template. A drift test counts them.
pub const ALARMS: u32 = 14;
/// Reconcile's runs: Lambda, reads of the index, and listings of markers, in USD. An estimate.
const RECONCILE: f64 = 1.75;

/// Returns the costs of a month, without those that are nothing.
pub(crate) fn of(facts: &Facts, load: &Load, cache: &CachePlan) -> Vec<Cost> {
    let records = load.records_per_month();
    let deployments = f64::from(cache.deployments);
    let writes = WriteUnits::of(load);
    let gb_seconds: f64 = record::runs(load).iter().map(|run| run.seconds * run.gb).sum();
    let workflow = match load.workflow {
        WorkflowType::Standard => {
            facts.cost("sfn.standard.transition", records * f64::from(record::TRANSITIONS))
        }
        WorkflowType::Express => {
            facts.cost("sfn.express.request", records)
                + facts.cost(
                    "sfn.express.gb_second",
                    records * record::express_seconds(load) * record::EXPRESS_GB,
                )
        }
    };
    let reads = if load.keyed { records } else { 0.0 };
    let fixed = facts.cost("secret.month", SECRETS)
        + facts.cost("cw.metric_month", METRICS)
        + facts.cost("cw.alarm_month", f64::from(ALARMS))
        + RECONCILE;
    let cost = |of, usd_per_month| Cost { of, usd_per_month };
    vec![
        cost("Step Functions", workflow),
        cost("cache (ElastiCache)", cache.usd_per_month),
        cost("API Gateway", facts.cost("apigw.rest.request", records)),
        cost(
            "functions (Lambda)",
            facts.cost("lambda.request", records * f64::from(record::INVOCATIONS))
                + facts.cost("lambda.gb_second.arm64", records * gb_seconds),
        ),
        cost(
            "tables (DynamoDB)",
            facts.cost("ddb.wru", records * writes.total()) + facts.cost("ddb.rru", reads),
        ),
        cost("archive: requests (S3)", facts.cost("s3.put", records * f64::from(record::OBJECTS))),
        cost("notifications (SNS)", facts.cost("sns.request", records * f64::from(record::PUBLISHES))),
        cost(
            "network",
            facts.cost("vpce.hour", ENDPOINTS * 2.0 * HOURS_PER_MONTH) * deployments
                + facts.cost("vpce.gb", records * record::ENDPOINT_BYTES / GB)
                + facts.cost("transfer.cross_az_gb", records * load.size / GB)
                + facts.cost("transfer.out_gb", records * record::ANSWER_BYTES / GB),
        ),
        cost(
            "logs, metrics, traces, secrets",
            facts.cost("logs.ingest_gb", records * record::LOG_BYTES / GB)
                + facts.cost("xray.trace", records * record::TRACES)
                + fixed * deployments,
        ),
        cost("archive: storage (S3), in the last month", storage(facts, load)),
        cost("tables: storage and point-in-time recovery, in the last month", items(facts, load)),
    ]
}

/// The storage of all payloads and manifests of `months` months: what the last of these months costs. Manifests are too small to be
/// moved to a colder class.
fn storage(facts: &Facts, load: &Load) -> f64 {
    let records = load.records_per_month();
    let manifests_gb = records * record::manifest_bytes(load) / STORED_GB;
    let manifests = facts.cost("s3.standard.gb_month", manifests_gb * load.months);
    let gb = records * load.size / STORED_GB;
    if load.size < record::SMALLEST_COLD_OBJECT {
        return manifests + facts.cost("s3.standard.gb_month", gb * load.months);
    }
    let cold = (load.months - MONTHS_UNTIL_COLD).max(0.0);
    let moved = if cold > 0.0 { records } else { 0.0 };
    manifests
        + facts.cost("s3.standard.gb_month", gb * load.months.min(MONTHS_UNTIL_COLD))
        + facts.cost("s3.glacier_ir.gb_month", gb * cold)
        + facts.cost("s3.glacier_ir.transition", moved)
}

fn items(facts: &Facts, load: &Load) -> f64 {
    let gb = load.records_per_month() * load.months * record::item_bytes(load) / STORED_GB;
    facts.cost("ddb.storage.gb_month", gb) + facts.cost("ddb.pitr.gb_month", gb)
}
