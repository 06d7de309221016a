//! Structured logs, one JSON object per line, as CloudWatch Logs queries them.
//!
//! *Invariant:* the level that an operator sets applies to Custody's own targets only. Dependencies stay at
//! `warn`: at `trace`, `lambda_runtime` would log whole events, with payloads and API keys.

use tracing::Level;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::Reader;

/// The targets that `LOG_LEVEL` applies to.
const OWN_TARGETS: [&str; 4] = ["custody_aws", "custody_core", "custody_lambda", "custody_redis"];

/// The target under which the Lambda runtime logs every error that a handler returns. It is switched off, because
/// `runtime::serve` has already logged the error.
const DUPLICATE_ERROR_LOG_TARGET: &str = "lambda_runtime::layers::panic";

/// The settings of logging.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most verbose level of Custody's own logs.
    pub level: Level,
    /// The name of the release, for the log of the start.
    pub release: String,
    /// The name of the stack, for the metrics.
    pub stack_name: String,
}

impl Settings {
    /// Reads `LOG_LEVEL`, `RELEASE` and `STACK_NAME`.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let level = reader.parsed("LOG_LEVEL", "error, warn, info, debug or trace", |text| text.parse().ok());
        Self {
            level: level.unwrap_or(Level::INFO),
            release: reader.text("RELEASE"),
            stack_name: reader.text("STACK_NAME"),
        }
    }
}

/// Starts logging to standard output.
pub fn init(level: Level) {
    let dependencies = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target(DUPLICATE_ERROR_LOG_TARGET, LevelFilter::OFF);
    let targets = OWN_TARGETS.iter().fold(dependencies, |targets, own| targets.with_target(*own, level));
    // The current span is the invocation, with the ids of its request and of its trace.
    let format = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    // A second initialization in one process happens only in tests. The first one stays in effect.
    drop(tracing_subscriber::registry().with(targets).with(format).try_init());
}
