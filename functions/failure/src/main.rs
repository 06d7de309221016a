//! The failure function: preserves the payload of a failed record unless it is archived, and reports the failure.

use custody_aws::{
    Aws, DynamoOpenRecords, DynamoTable, S3Archive, S3FailedStore, SqsDeadLetters, TopicNotifier,
};
use custody_core::{clock::SystemClock, stages::failure::Failure};
use custody_lambda::{
    config::FailureConfig,
    deployment::{OnAws, with_background_call_limit},
    runtime,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("failure", FailureConfig::read)?;
    let aws = Aws::load().await;
    let tables = config.tables;
    let stage = Failure::<OnAws> {
        cache: with_background_call_limit(config.cache.client(aws.secrets_manager())),
        failed_store: with_background_call_limit(S3FailedStore::new(aws.s3(), config.failed_bucket)),
        archive: with_background_call_limit(S3Archive::new(aws.s3(), config.archive_bucket)),
        open_records: with_background_call_limit(DynamoOpenRecords::new(
            aws.dynamodb(),
            tables.open,
            tables.claims,
        )),
        record_table: with_background_call_limit(DynamoTable::new(aws.dynamodb(), config.table_name)),
        dead_letters: with_background_call_limit(SqsDeadLetters::new(aws.sqs(), config.dlq_url)),
        topic: with_background_call_limit(TopicNotifier::new(aws.sns(), config.topic_arn)),
        clock: SystemClock,
        event_source: config.event_source,
        policy: config.redrive_policy,
    };
    runtime::serve(stage, async |stage, record| Box::pin(stage.run(record)).await).await
}
