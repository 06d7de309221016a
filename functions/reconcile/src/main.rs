//! The reconcile function: does for every open record that is due what it is owed, once a minute.

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
    bounded::Bounded,
    config::ReconcileConfig,
    deployment::{OnAws, VERY_PATIENT, patient},
    metrics, runtime,
};
use serde::de::IgnoredAny;

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start(ReconcileConfig::read)?;
    let aws = Aws::load().await;
    let (tables, workflow) = (config.tables, config.workflow);
    let open = DynamoOpenRecords::new(aws.dynamodb(), tables.open, tables.claims);
    let stage = Reconcile::<OnAws> {
        cache: patient(config.cache.client(aws.secrets_manager())),
        failed_store: patient(S3FailedStore::new(aws.s3(), config.failed_bucket)),
        archive: patient(S3Archive::new(aws.s3(), config.archive_bucket)),
        open: Bounded::new(open.clone(), VERY_PATIENT),
        claims: patient(open),
        markers: patient(S3AcceptanceMarkers::new(aws.s3(), config.marker_bucket)),
        table: patient(DynamoTable::new(aws.dynamodb(), config.table_name)),
        workflow: patient(StateMachine::new(
            aws.step_functions(),
            workflow.state_machine_arn,
            workflow.workflow_type,
        )),
        failure_handler: Bounded::new(
            FailureFunction::new(aws.lambda(), config.failure_function),
            VERY_PATIENT,
        ),
        topic: patient(TopicNotifier::new(aws.sns(), config.topic_arn)),
        clock: SystemClock,
        event_source: config.event_source,
        settings: Settings {
            first_look: config.first_look,
            restart_after: config.restart_after,
            patience: PATIENCE,
            // New work begins for 50 s of the function's 180 s: what began last may be a failure that takes its 60 s.
            budget: Duration::from_secs(50),
            concurrency: 32,
            // 40 a second. Step Functions grants 150 at least, in every Region. Source: AWS Step Functions developer
            // guide, "Service quotas".
            max_starts: 2000,
            max_listed: 200_000,
            max_adopted: 2000,
            policy: config.redrive_policy,
        },
    };
    runtime::serve((stage, config.stack_name), async |function, _: IgnoredAny| {
        let (stage, stack_name) = function.as_ref();
        let report = stage.run().await?;
        metrics::emit(stack_name, &report);
        Ok(report)
    })
    .await
}
