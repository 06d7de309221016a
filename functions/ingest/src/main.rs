//! The ingest function: answers `POST /ingestMessage`.

use custody_common::{
    aws::{Aws, FailureFunction, S3Archive, S3PendingMarkers, StateMachine},
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
    let stage = Ingest {
        cache: RedisCache::new(
            RedisConnection::from_config(config.redis, aws.secrets_manager()),
            CacheSettings::with_replicas(config.redis_replicas),
        ),
        archive: S3Archive::new(aws.s3(), config.archive_bucket),
        markers: S3PendingMarkers::new(aws.s3(), config.pending_bucket),
        workflow: StateMachine::new(aws.step_functions(), config.state_machine_arn),
        salvage: FailureFunction::new(aws.lambda(), config.failure_function),
        clock: SystemClock,
    };
    // Every outcome is an answer for the producer, so that this stage never fails as a function.
    lambda::serve_text(async |event| Ok(stage.run(event).await)).await
}
