//! The redrive function: gives failed records their next attempt, from the dead letters on the redrive queue.

use custody_aws::{Aws, DynamoOpenRecords, DynamoTable, LetterQueue, StateMachine};
use custody_core::{clock::SystemClock, stages::redrive::Redrive};
use custody_lambda::{
    config::RedriveConfig,
    deployment::{OnAws, patient},
    runtime,
};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start(RedriveConfig::read)?;
    let aws = Aws::load().await;
    let (tables, workflow) = (config.tables, config.workflow);
    let stage = Redrive::<OnAws> {
        open: patient(DynamoOpenRecords::new(aws.dynamodb(), tables.open, tables.claims)),
        table: patient(DynamoTable::new(aws.dynamodb(), config.table_name)),
        workflow: patient(StateMachine::new(
            aws.step_functions(),
            workflow.state_machine_arn,
            workflow.workflow_type,
        )),
        dead_letters: patient(LetterQueue::new(aws.sqs(), config.dlq_url)),
        clock: SystemClock,
        policy: config.redrive_policy,
        first_look: config.first_look,
    };
    runtime::serve(stage, async |stage, batch| Ok(Box::pin(stage.run(batch)).await)).await
}
