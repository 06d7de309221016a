//! The metadata function: writes the record's item into the index.

use custody_common::{
    aws::{Aws, DynamoTable},
    clock::SystemClock,
    config::MetadataConfig,
    lambda,
};
use custody_core::{message::InternalMessage, stages::metadata};

fn main() -> Result<(), lambda::Error> {
    lambda::run(function())
}

async fn function() -> Result<(), lambda::Error> {
    let config = custody_common::start(MetadataConfig::read)?;
    let aws = Aws::load().await;
    let table = DynamoTable::new(aws.dynamodb(), config.table_name);
    lambda::serve(table, async |table, message: InternalMessage| {
        metadata::run(table.as_ref(), &SystemClock, &message).await
    })
    .await
}
