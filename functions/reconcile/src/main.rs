//! The reconcile function: once a minute, does the pending work of every open record that is due.

use std::time::Duration;

use custody_aws::{
    Aws, DynamoOpenRecords, DynamoTable, FailureFunction, S3AcceptanceMarkers, S3Archive, S3FailedStore,
    StateMachine, TopicNotifier,
};
use custody_core::{
    clock::SystemClock,
    redrive_policy::PATIENCE,
    stages::reconcile::{Reconcile, Settings},
};
use custody_lambda::{
    config::ReconcileConfig,
    deployment::{LONG_CALL_LIMIT, OnAws, with_background_call_limit},
    metrics, runtime,
    time_limit::limited,
};
use serde::de::IgnoredAny;

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("reconcile", ReconcileConfig::read)?;
    let aws = Aws::load().await;
    let (tables, workflow) = (config.tables, config.workflow);
    let open = DynamoOpenRecords::new(aws.dynamodb(), tables.open, tables.claims);
    let stage = Reconcile::<OnAws> {
        cache: with_background_call_limit(config.cache.client(aws.secrets_manager())),
        failed_store: with_background_call_limit(S3FailedStore::new(aws.s3(), config.failed_bucket)),
        archive: with_background_call_limit(S3Archive::new(aws.s3(), config.archive_bucket)),
        open_records: limited(open.clone(), LONG_CALL_LIMIT),
        claims: with_background_call_limit(open),
        markers: with_background_call_limit(S3AcceptanceMarkers::new(aws.s3(), config.marker_bucket)),
        record_table: with_background_call_limit(DynamoTable::new(aws.dynamodb(), config.table_name)),
        workflow: with_background_call_limit(StateMachine::new(
            aws.step_functions(),
            workflow.state_machine_arn,
            workflow.workflow_type,
        )),
        failure_handler: limited(
            FailureFunction::new(aws.lambda(), config.failure_function),
            LONG_CALL_LIMIT,
        ),
        topic: with_background_call_limit(TopicNotifier::new(aws.sns(), config.topic_arn)),
        clock: SystemClock,
        event_source: config.event_source,
        settings: Settings {
            first_look: config.first_look,
            restart_after: config.restart_after,
            patience: PATIENCE,
            // The function begins new work for 50 s of its 180 s. The last work that it begins may be the handling of a
            // failure, which takes up to 60 s.
            budget: Duration::from_secs(50),
            concurrency: 32,
            // The template's default is 40 starts a second. Step Functions allows at least 150 a second in every Region. Source:
            // AWS Step Functions developer guide, "Service quotas".
            max_starts: config.max_starts,
            max_listed: 200_000,
            max_adopted: 2000,
            policy: config.redrive_policy,
        },
    };
    runtime::serve(stage, async |stage, _: IgnoredAny| {
        let report = stage.run().await?;
        metrics::reconciled(&report);
        Ok(report)
    })
    .await
}
