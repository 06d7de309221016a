//! The metadata function: writes the item of a record into the record table.

use custody_aws::{Aws, DynamoTable};
use custody_core::{clock::SystemClock, message::InternalMessage, stages::metadata};
use custody_lambda::{config::MetadataConfig, runtime};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("metadata", MetadataConfig::read)?;
    let aws = Aws::load().await;
    let table = DynamoTable::new(aws.dynamodb(), config.table_name);
    runtime::serve(table, async |table, message: InternalMessage| {
        metadata::run(table.as_ref(), &SystemClock, &message).await
    })
    .await
}
