//! The upload function: accepts payloads that do not pass through a function.
// The nested futures of SDK calls exceed the compiler's default recursion limit.
#![recursion_limit = "256"]

use std::{sync::Arc, time::Duration};

use custody_aws::{Aws, DynamoAccessEntries, DynamoOpenRecords, DynamoUploads, S3StagingArea, StateMachine};
use custody_core::{
    access::AccessControl,
    clock::SystemClock,
    stages::upload::{Transfers, UploadApi},
};
use custody_lambda::{config::UploadConfig, deployment::OnAws, runtime, time_limit::limited};

/// The time limit of a call of a table.
const CALL: Duration = Duration::from_secs(5);

/// The time limit of one try of a call, except that of a copy.
const TRY: Duration = Duration::from_secs(2);

/// The time limit of a copy. It is shorter than the function's timeout, 15 minutes.
const COPY: Duration = Duration::from_mins(13);

/// The time after which a caller gets an answer although its upload is not completed. With the calls before it, it is shorter than
/// API Gateway's 29 s.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("upload", UploadConfig::read)?;
    let aws = Aws::load().await;
    let (short, long) = (aws.with_short_retries(TRY), aws.with_long_calls(COPY));
    let (tables, workflow, transfers) = (config.tables, config.workflow, config.transfers);
    let open = DynamoOpenRecords::new(short.dynamodb(), tables.open, tables.claims);
    let staging = S3StagingArea::new(short.s3(), long.s3(), transfers.staging_bucket, config.archive_bucket);
    let workflow =
        StateMachine::new(short.step_functions(), workflow.state_machine_arn, workflow.workflow_type);
    let stage = UploadApi::<OnAws> {
        access: AccessControl::new(limited(
            DynamoAccessEntries::new(short.dynamodb(), config.access_table),
            CALL,
        )),
        transfers: Transfers {
            uploads: limited(DynamoUploads::new(short.dynamodb(), transfers.upload_table), CALL),
            staging: limited(staging, COPY),
            open_records: limited(open.clone(), CALL),
            claims: limited(open, CALL),
            workflow: limited(workflow, CALL),
            allowed_sources: transfers.allowed_sources,
            clock: SystemClock,
            first_look: config.first_look,
        },
    };
    // Every result, also an error, is an HTTP answer, so this function itself never fails.
    let origin = config.allowed_origin;
    runtime::serve_with_follow_up(stage, move |stage, event| {
        let origin = origin.clone();
        async move {
            let answer = Arc::clone(&stage).run(&event, tokio::time::sleep(PATIENCE)).await;
            let response = answer.response.allow_origin(&origin);
            (response, async move { stage.follow_up(answer.follow_up).await })
        }
    })
    .await
}
