//! The ingest function: answers `POST /ingestMessage`.
// The nested futures of SDK calls exceed the compiler's default recursion limit.
#![recursion_limit = "256"]

use custody_aws::{
    Aws, DynamoOpenRecords, S3AcceptanceMarkers, S3Archive, S3FailedStore, SqsDeadLetters, StateMachine,
};
use custody_core::{
    breaker::Breaker,
    clock::SystemClock,
    stages::ingest::{Ingest, TABLE_BREAKER_PAUSE},
};
use custody_lambda::{
    bounded::{Bounded, ingest_shares as share},
    config::IngestConfig,
    deployment::OnAws,
    runtime,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start(IngestConfig::read)?;
    let aws = Aws::load().await;
    let (tables, workflow) = (config.tables, config.workflow);
    let open = DynamoOpenRecords::new(
        aws.with_short_retries(share::TABLE_TRY).dynamodb(),
        tables.open,
        tables.claims,
    );
    let markers = aws.with_short_retries(share::MARKER_TRY).s3();
    let queue = |url| Bounded::new(SqsDeadLetters::new(aws.sqs(), url), share::FOLLOW_UP);
    let stage = Ingest::<OnAws> {
        cache: Bounded::new(config.cache.client(aws.secrets_manager()), share::CACHE),
        archive: Bounded::new(S3Archive::new(aws.s3(), config.archive_bucket), share::ARCHIVE),
        open_records: Bounded::new(open.clone(), share::TABLE),
        claims: Bounded::new(open, share::TABLE),
        markers: Bounded::new(S3AcceptanceMarkers::new(markers, config.marker_bucket), share::MARKER),
        workflow: Bounded::new(
            StateMachine::new(aws.step_functions(), workflow.state_machine_arn, workflow.workflow_type),
            share::FOLLOW_UP,
        ),
        failed_store: Bounded::new(S3FailedStore::new(aws.s3(), config.failed_bucket), share::ARCHIVE),
        dead_letters: queue(config.dlq_url),
        rejected_requests: queue(config.rejected_queue_url),
        clock: SystemClock,
        table_breaker: Breaker::new(TABLE_BREAKER_PAUSE),
        first_look: config.first_look,
    };
    // Every result, also an error, is an HTTP answer for the producer, so this function itself never fails.
    runtime::serve_with_follow_up(stage, async |stage, event| {
        let answer = stage.run(event).await;
        (answer.response, async move { stage.follow_up(answer.follow_up).await })
    })
    .await
}
