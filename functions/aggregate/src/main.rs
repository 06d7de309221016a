//! The aggregate function: completes a record after both branches of its workflow have succeeded.

use std::time::Duration;

use custody_aws::{Aws, DynamoTable};
use custody_core::{clock::SystemClock, stages::aggregate};
use custody_lambda::{config::AggregateConfig, runtime, time_limit::limited};

/// The time limit of unlinking the payload. If the cache does not unlink it in time, reconcile has it unlinked later.
const UNLINK: Duration = Duration::from_secs(2);

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("aggregate", AggregateConfig::read)?;
    let aws = Aws::load().await;
    let table = DynamoTable::new(aws.dynamodb(), config.table_name);
    let cache = limited(config.cache.client(aws.secrets_manager()), UNLINK);
    runtime::serve((table, cache), async |stores, input| {
        let (table, cache) = stores.as_ref();
        aggregate::run(table, cache, &SystemClock, input).await
    })
    .await
}
