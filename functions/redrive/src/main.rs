//! The redrive function: reads dead letters from the redrive queue, and starts the next attempt of their records.

use custody_aws::{Aws, DynamoOpenRecords, DynamoTable, SqsDeadLetters, StateMachine};
use custody_core::{clock::SystemClock, sqs_event::BatchResponse, stages::redrive::Redrive};
use custody_lambda::{
    config::RedriveConfig,
    deployment::{OnAws, with_background_call_limit},
    metrics::{self, LEFT_ON_THE_QUEUE},
    runtime,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("redrive", RedriveConfig::read)?;
    let aws = Aws::load().await;
    let (tables, workflow) = (config.tables, config.workflow);
    let stage = Redrive::<OnAws> {
        open_records: with_background_call_limit(DynamoOpenRecords::new(
            aws.dynamodb(),
            tables.open,
            tables.claims,
        )),
        record_table: with_background_call_limit(DynamoTable::new(aws.dynamodb(), config.table_name)),
        workflow: with_background_call_limit(StateMachine::new(
            aws.step_functions(),
            workflow.state_machine_arn,
            workflow.workflow_type,
        )),
        dead_letters: with_background_call_limit(SqsDeadLetters::new(aws.sqs(), config.dlq_url)),
        clock: SystemClock,
        policy: config.redrive_policy,
        first_look: config.first_look,
    };
    runtime::serve(stage, async |stage, batch| {
        let response: BatchResponse = Box::pin(stage.run(batch)).await;
        // The invocation succeeds all the same, so Lambda counts no error of it.
        response.batch_item_failures.iter().for_each(|_| metrics::failed(LEFT_ON_THE_QUEUE));
        Ok(response)
    })
    .await
}
