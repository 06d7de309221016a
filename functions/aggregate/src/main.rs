//! The aggregate function: completes a record that both branches are done with.

use std::time::Duration;

use custody_common::{
    aws::{Aws, DynamoTable},
    bounded::Bounded,
    cache::ClusterCache,
    clock::SystemClock,
    config::AggregateConfig,
    lambda,
};
use custody_core::stages::aggregate;

/// The time limit of the cache: what it does not forget now, reconcile has it forget.
const UNLINK: Duration = Duration::from_secs(2);

fn main() -> Result<(), lambda::Error> {
    lambda::run(function())
}

async fn function() -> Result<(), lambda::Error> {
    let config = custody_common::start(AggregateConfig::read)?;
    let aws = Aws::load().await;
    let table = DynamoTable::new(aws.dynamodb(), config.table_name);
    let cache = Bounded::new(ClusterCache::from_config(config.cache, aws.secrets_manager()), UNLINK);
    lambda::serve((table, cache), async |stores, input| {
        let (table, cache) = stores.as_ref();
        aggregate::run(table, cache, &SystemClock, input).await
    })
    .await
}
