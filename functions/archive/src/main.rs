//! The archive function: moves a payload from the cache into the archive.

use custody_common::{
    aws::{Aws, S3Archive},
    clock::SystemClock,
    config::ArchiveConfig,
    lambda,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::{message::InternalMessage, stages::archive};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(ArchiveConfig::read)?;
    let aws = Aws::load().await;
    let connection = RedisConnection::from_config(config.redis, aws.secrets_manager());
    let cache = RedisCache::new(connection, CacheSettings::with_replicas(0));
    let store = S3Archive::new(aws.s3(), config.archive_bucket);
    lambda::serve(async |message: InternalMessage| archive::run(&cache, &store, &SystemClock, &message).await)
        .await
}
