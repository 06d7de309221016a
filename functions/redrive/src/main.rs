//! The redrive function: runs failed records again, from the letters on the redrive queue.

use custody_common::{
    aws::{Aws, DynamoTable, LetterQueue, S3Archive, S3FailedStore, S3PendingMarkers, StateMachine},
    clock::SystemClock,
    config::RedriveConfig,
    lambda,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::stages::{failure::RedrivePolicy, redrive::Redrive};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(RedriveConfig::read)?;
    let aws = Aws::load().await;
    let connection = RedisConnection::from_config(config.redis, aws.secrets_manager());
    let stage = Redrive {
        cache: RedisCache::new(connection, CacheSettings::with_replicas(config.redis_replicas)),
        archive: S3Archive::new(aws.s3(), config.archive_bucket),
        markers: S3PendingMarkers::new(aws.s3(), config.pending_bucket),
        table: DynamoTable::new(aws.dynamodb(), config.table_name),
        failed_store: S3FailedStore::new(aws.s3(), config.failed_bucket),
        workflow: StateMachine::new(aws.step_functions(), config.state_machine_arn),
        dead_letters: LetterQueue::new(aws.sqs(), config.dlq_url),
        clock: SystemClock,
        policy: RedrivePolicy { automatic: false, max_attempts: config.max_attempts },
    };
    lambda::serve(async |batch| Ok(Box::pin(stage.run(batch)).await)).await
}
