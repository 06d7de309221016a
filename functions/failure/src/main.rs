//! The failure function: secures the payload of a record that failed, and tells of the failure.

use custody_aws::{
    Aws, DynamoOpenRecords, DynamoTable, LetterQueue, S3Archive, S3FailedStore, TopicNotifier,
};
use custody_core::{clock::SystemClock, stages::failure::Failure};
use custody_lambda::{
    config::FailureConfig,
    deployment::{OnAws, patient},
    runtime,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start(FailureConfig::read)?;
    let aws = Aws::load().await;
    let tables = config.tables;
    let stage = Failure::<OnAws> {
        cache: patient(config.cache.client(aws.secrets_manager())),
        failed_store: patient(S3FailedStore::new(aws.s3(), config.failed_bucket)),
        archive: patient(S3Archive::new(aws.s3(), config.archive_bucket)),
        open: patient(DynamoOpenRecords::new(aws.dynamodb(), tables.open, tables.claims)),
        table: patient(DynamoTable::new(aws.dynamodb(), config.table_name)),
        dead_letters: patient(LetterQueue::new(aws.sqs(), config.dlq_url)),
        topic: patient(TopicNotifier::new(aws.sns(), config.topic_arn)),
        clock: SystemClock,
        event_source: config.event_source,
        policy: config.redrive_policy,
    };
    runtime::serve(stage, async |stage, record| Box::pin(stage.run(record)).await).await
}
