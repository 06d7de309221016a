//! The ingest function: answers `POST /ingestMessage`.
// The nested futures of SDK calls exceed the compiler's default recursion limit.
#![recursion_limit = "256"]

use std::time::Instant;

use custody_aws::{
    Aws, DynamoAccessEntries, DynamoOpenRecords, DynamoUploads, S3AcceptanceMarkers, S3Archive,
    S3FailedStore, S3StagingArea, SqsDeadLetters, StateMachine,
};
use custody_core::{
    access::AccessControl,
    breaker::Breaker,
    clock::SystemClock,
    stages::{
        ingest::{Ingest, TABLE_BREAKER_PAUSE},
        upload::Transfers,
    },
};
use custody_lambda::{
    config::{IngestConfig, TransferConfig},
    deployment::OnAws,
    ingest_time_limits as limit, metrics, runtime,
    time_limit::limited,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("ingest", IngestConfig::read)?;
    let aws = Aws::load().await;
    let (tables, workflow) = (config.tables, config.workflow);
    let access =
        DynamoAccessEntries::new(aws.with_short_retries(limit::ACCESS_TRY).dynamodb(), config.access_table);
    // A client costs memory and time of the start, so clients with the same settings are one.
    let (s3, sqs) = (aws.s3(), aws.sqs());
    let short = aws.with_short_retries(limit::TABLE_TRY).dynamodb();
    let open = DynamoOpenRecords::new(short.clone(), tables.open, tables.claims);
    let markers = aws.with_short_retries(limit::MARKER_TRY).s3();
    let queue = |url| limited(SqsDeadLetters::new(sqs.clone(), url), limit::FOLLOW_UP);
    let workflow = limited(
        StateMachine::new(aws.step_functions(), workflow.state_machine_arn, workflow.workflow_type),
        limit::FOLLOW_UP,
    );
    let TransferConfig { upload_table, staging_bucket, allowed_sources } = config.transfers;
    let copier = aws.with_long_calls(limit::STAGING).s3();
    let staging = S3StagingArea::new(s3.clone(), copier, staging_bucket, config.archive_bucket.clone());
    let transfers = Transfers::<OnAws> {
        uploads: limited(DynamoUploads::new(short, upload_table), limit::TABLE),
        staging: limited(staging, limit::STAGING),
        open_records: limited(open.clone(), limit::TABLE),
        claims: limited(open.clone(), limit::TABLE),
        workflow: workflow.clone(),
        allowed_sources,
        clock: SystemClock,
        first_look: config.first_look,
    };
    let stage = Ingest::<OnAws> {
        access: AccessControl::new(limited(access, limit::ACCESS)),
        cache: limited(config.cache.client(aws.secrets_manager()), limit::CACHE),
        archive: limited(S3Archive::new(s3.clone(), config.archive_bucket), limit::ARCHIVE),
        open_records: limited(open.clone(), limit::TABLE),
        claims: limited(open, limit::TABLE),
        markers: limited(S3AcceptanceMarkers::new(markers, config.marker_bucket), limit::MARKER),
        workflow,
        failed_store: limited(S3FailedStore::new(s3, config.failed_bucket), limit::ARCHIVE),
        dead_letters: queue(config.dlq_url),
        rejected_requests: queue(config.rejected_queue_url),
        transfers,
        clock: SystemClock,
        table_breaker: Breaker::new(TABLE_BREAKER_PAUSE),
        first_look: config.first_look,
    };
    // Every result, also an error, is an HTTP answer for the producer, so this function itself never fails.
    let origin = config.allowed_origin;
    runtime::serve_with_follow_up(stage, move |stage, event| {
        let origin = origin.clone();
        async move {
            let began = Instant::now();
            let answer = stage.run(event).await;
            let response = answer.response.allow_origin(&origin);
            let follow_up = async move {
                metrics::answered(answer.outcome, began.elapsed());
                stage.follow_up(answer.follow_up).await;
            };
            (response, follow_up)
        }
    })
    .await
}
