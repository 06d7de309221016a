//! The failure function: keeps what can be kept of a failed record or a refused request, and says why.

use custody_common::{
    aws::{Aws, DynamoTable, LetterQueue, S3Archive, S3FailedStore, S3PendingMarkers, TopicNotifier},
    clock::SystemClock,
    config::FailureConfig,
    lambda,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::stages::failure::{Failure, FailureInput};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(FailureConfig::read)?;
    let aws = Aws::load().await;
    let stage = Failure {
        cache: RedisCache::new(
            RedisConnection::from_config(config.redis, aws.secrets_manager()),
            CacheSettings::with_replicas(0),
        ),
        archive: S3Archive::new(aws.s3(), config.archive_bucket),
        markers: S3PendingMarkers::new(aws.s3(), config.pending_bucket),
        table: DynamoTable::new(aws.dynamodb(), config.table_name),
        failed_store: S3FailedStore::new(aws.s3(), config.failed_bucket),
        dead_letters: LetterQueue::new(aws.sqs(), config.dlq_url),
        redrives: LetterQueue::new(aws.sqs(), config.redrive_queue_url),
        notifier: TopicNotifier::new(aws.sns(), config.topic_arn),
        clock: SystemClock,
        event_source: config.event_source,
        policy: config.redrive_policy,
    };
    lambda::serve_text(async |text| stage.run(FailureInput::parse(text)?).await).await
}
