//! The ingest function: answers `POST /ingestMessage`.

use std::time::Duration;

use custody_common::{
    aws::{Aws, FailureFunction, S3Archive, S3PendingMarkers, StateMachine},
    bounded::Bounded,
    clock::SystemClock,
    config::IngestConfig,
    lambda,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::stages::ingest::Ingest;

// The shares of one request's time. Together they stay below the function's timeout, 26 s, on the longest way: a cache and
// an archive that hang, and then the salvage.
const CACHE: Duration = Duration::from_secs(7);
const ARCHIVE: Duration = Duration::from_secs(8);
const MARKER: Duration = Duration::from_secs(3);
const START: Duration = Duration::from_secs(3);
const SALVAGE: Duration = Duration::from_secs(6);

const _: () = assert!(CACHE.as_secs() + ARCHIVE.as_secs() + MARKER.as_secs() + SALVAGE.as_secs() < 26);
const _: () = assert!(START.as_secs() <= SALVAGE.as_secs());

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(IngestConfig::read)?;
    let aws = Aws::load().await;
    let connection = RedisConnection::from_config(config.redis, aws.secrets_manager());
    let cache = RedisCache::new(connection, CacheSettings::with_replicas(config.redis_replicas));
    let stage = Ingest {
        cache: Bounded::new(cache, CACHE),
        archive: Bounded::new(S3Archive::new(aws.s3(), config.archive_bucket), ARCHIVE),
        markers: Bounded::new(S3PendingMarkers::new(aws.s3(), config.pending_bucket), MARKER),
        workflow: Bounded::new(StateMachine::new(aws.step_functions(), config.state_machine_arn), START),
        salvage: Bounded::new(FailureFunction::new(aws.lambda(), config.failure_function), SALVAGE),
        clock: SystemClock,
    };
    // Every outcome is an answer for the producer, so that this stage never fails as a function.
    lambda::serve_text(async |event| Ok(Box::pin(stage.run(event)).await)).await
}
