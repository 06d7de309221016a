//! The query function: answers what producers and auditors ask about records.

use std::time::Duration;

use custody_aws::{
    Aws, DynamoAccessEntries, DynamoOpenRecords, RecordIndex, S3AcceptanceMarkers, S3PayloadLinks,
};
use custody_core::{access::AccessControl, clock::SystemClock, stages::query::Query};
use custody_lambda::{config::QueryConfig, deployment::OnAws, runtime, time_limit::limited};

/// The time limit of a call of a store. Four of them fit into the function's timeout.
const CALL: Duration = Duration::from_secs(5);

/// The time limit of one try of a call.
const TRY: Duration = Duration::from_secs(2);

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let config = custody_lambda::start("query", QueryConfig::read)?;
    let aws = Aws::load().await.with_short_retries(TRY);
    let (dynamodb, tables) = (aws.dynamodb(), config.tables);
    let access = DynamoAccessEntries::new(dynamodb.clone(), config.access_table);
    let open = DynamoOpenRecords::new(dynamodb.clone(), tables.open, tables.claims);
    let stage = Query::<OnAws> {
        access: AccessControl::new(limited(access, CALL)),
        markers: limited(S3AcceptanceMarkers::new(aws.s3(), config.marker_bucket), CALL),
        open_records: limited(open, CALL),
        records: limited(RecordIndex::new(dynamodb, config.table_name), CALL),
        links: S3PayloadLinks::new(aws.s3()),
        clock: SystemClock,
    };
    // Every result, also an error, is an HTTP answer, so this function itself never fails.
    let origin = config.allowed_origin;
    runtime::serve_with_follow_up(stage, move |stage, event| {
        let origin = origin.clone();
        async move { (stage.run(&event).await.allow_origin(&origin), async {}) }
    })
    .await
}
