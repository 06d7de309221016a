//! The aggregate function: completes a record that both branches are done with.

use std::time::Duration;

use custody_common::{
    aws::{Aws, DynamoTable, S3PendingMarkers},
    bounded::Bounded,
    clock::SystemClock,
    config::AggregateConfig,
    lambda,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::stages::aggregate;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(AggregateConfig::read)?;
    let aws = Aws::load().await;
    let table = DynamoTable::new(aws.dynamodb(), config.table_name);
    let connection = RedisConnection::from_config(config.redis, aws.secrets_manager());
    // Clearing up must not cost a completed record its announcement: the function's timeout is 20 s.
    let cache =
        Bounded::new(RedisCache::new(connection, CacheSettings::with_replicas(0)), Duration::from_secs(2));
    let markers =
        Bounded::new(S3PendingMarkers::new(aws.s3(), config.pending_bucket), Duration::from_secs(2));
    lambda::serve(async |input| Box::pin(aggregate::run(&table, &cache, &markers, &SystemClock, input)).await)
        .await
}
