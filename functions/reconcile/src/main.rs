//! The reconcile function: helps every record that has not reached its end, once a minute.

use std::time::Duration;

use custody_common::{
    aws::{Aws, DynamoTable, FailureFunction, S3PendingMarkers, StateMachine},
    clock::SystemClock,
    config::ReconcileConfig,
    lambda, metrics,
    redis::{CacheSettings, RedisCache, RedisConnection},
};
use custody_core::stages::reconcile::{Answer, Reconcile, Request, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda::Error> {
    let config = custody_common::start(ReconcileConfig::read)?;
    let aws = Aws::load().await;
    let connection = RedisConnection::from_config(config.redis, aws.secrets_manager());
    let stage = Reconcile {
        cache: RedisCache::new(connection, CacheSettings::with_replicas(0)),
        markers: S3PendingMarkers::new(aws.s3(), config.pending_bucket),
        table: DynamoTable::new(aws.dynamodb(), config.table_name),
        workflow: StateMachine::new(aws.step_functions(), config.state_machine_arn),
        failure_handler: FailureFunction::new(aws.lambda(), config.failure_function),
        clock: SystemClock,
        settings: Settings {
            min_age: config.min_age,
            // New work begins for 40 s of the function's 120 s: what began last may be a failure that takes its 60 s.
            budget: Duration::from_secs(40),
            concurrency: 32,
            max_outcomes: 500,
            max_pending: 100_000,
        },
    };
    lambda::serve(async |request: Request| {
        let answer = Box::pin(stage.answer(request)).await?;
        if let Answer::Report(report) = &answer {
            metrics::emit(&config.stack_name, report);
        }
        Ok(answer)
    })
    .await
}
