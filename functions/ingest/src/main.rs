//! The ingest function: answers `POST /ingestMessage`.

use custody_common::{
    aws::{Aws, FailureFunction, S3Archive, S3PendingMarkers, StateMachine},
    bounded::{Bounded, ingest_shares as share},
    clock::SystemClock,
    config::IngestConfig,
    lambda,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::stages::ingest::Ingest;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(IngestConfig::read)?;
    let aws = Aws::load().await;
    let connection = RedisConnection::from_config(config.redis, aws.secrets_manager());
    let cache = RedisCache::new(connection, CacheSettings::with_replicas(config.redis_replicas));
    let stage = Ingest {
        cache: Bounded::new(cache, share::CACHE),
        archive: Bounded::new(S3Archive::new(aws.s3(), config.archive_bucket), share::ARCHIVE),
        markers: Bounded::new(S3PendingMarkers::new(aws.s3(), config.pending_bucket), share::MARKER),
        workflow: Bounded::new(
            StateMachine::new(aws.step_functions(), config.state_machine_arn),
            share::START,
        ),
        salvage: Bounded::new(FailureFunction::new(aws.lambda(), config.failure_function), share::SALVAGE),
        clock: SystemClock,
    };
    // Every outcome is an answer for the producer, so that this stage never fails as a function.
    lambda::serve_bytes(async |event| Ok(Box::pin(stage.run(&event)).await)).await
}
