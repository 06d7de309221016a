//! Checks that the AWS adapters satisfy the same contracts as their in-memory doubles. The tests run as the account's
//! administrator on the deployed stores, and use new record ids.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::time::Duration;

use bytes::Bytes;
use custody_aws::{
    DynamoAccessEntries, DynamoOpenRecords, DynamoTable, DynamoUploads, RecordIndex, S3AcceptanceMarkers,
    S3Archive, S3FailedStore, S3PayloadLinks, S3StagingArea, StateMachine, WorkflowType,
};
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    digest::Sha256,
    ports::{FailedStore as _, PayloadLinks as _, StagingArea as _, UploadLink},
    testing::{contract, samples},
    upload::Upload,
};
use custody_e2e::{Stack, reference_bucket};
use custody_test_client::verify;

#[tokio::test]
async fn the_s3_archive_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    contract::payload_archive(&S3Archive::new(stack.deployment.aws.s3(), bucket.to_owned())).await;
}

#[tokio::test]
async fn the_acceptance_markers_keep_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("MarkerBucket").unwrap();
    contract::acceptance_markers(&S3AcceptanceMarkers::new(stack.deployment.aws.s3(), bucket.to_owned()))
        .await;
}

#[tokio::test]
async fn the_open_records_and_their_claims_keep_the_contract() {
    let stack = Stack::under_test().await;
    let output = |name| stack.deployment.output(name).unwrap().to_owned();
    let open = DynamoOpenRecords::new(
        stack.deployment.aws.dynamodb(),
        output("OpenTableName"),
        output("ClaimsTableName"),
    );
    contract::open_records(&open).await;
    contract::idempotency_claims(&open, &open).await;
    contract::concurrent_claims(&open).await;
}

#[tokio::test]
async fn the_failed_store_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("FailedBucket").unwrap();
    let store = S3FailedStore::new(stack.deployment.aws.s3(), bucket.to_owned());
    contract::failed_store(&store).await;

    let key = samples::record_id().preserved_key();
    store.preserve(&key, Bytes::from_static(b"\0kept\xff")).await.unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &key).await.unwrap(), b"\0kept\xff");
}

#[tokio::test]
async fn the_table_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let table = stack.deployment.output("TableName").unwrap();
    let records = DynamoTable::new(stack.deployment.aws.dynamodb(), table.to_owned());
    contract::record_table(&records).await;
    let queries = RecordIndex::new(stack.deployment.aws.dynamodb(), table.to_owned());
    contract::record_queries(&records, &queries).await;
}

#[tokio::test]
async fn the_state_machine_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let arn = stack.deployment.output("StateMachineArn").unwrap().to_owned();
    let client = stack.deployment.aws.step_functions();
    contract::workflow(&StateMachine::new(client, arn, WorkflowType::Standard)).await;
}

#[tokio::test]
async fn the_access_entries_keep_the_contract() {
    let stack = Stack::under_test().await;
    let table = stack.deployment.output("AccessTableName").unwrap();
    contract::access_entries(&DynamoAccessEntries::new(stack.deployment.aws.dynamodb(), table.to_owned()))
        .await;
}

#[tokio::test]
async fn the_uploads_keep_the_contract() {
    let stack = Stack::under_test().await;
    let table = stack.deployment.output("UploadTableName").unwrap();
    contract::uploads(&DynamoUploads::new(stack.deployment.aws.dynamodb(), table.to_owned())).await;
}

#[tokio::test]
async fn the_staging_area_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = |name| stack.deployment.output(name).unwrap().to_owned();
    let s3 = stack.deployment.aws.s3();
    let staging = S3StagingArea::new(s3.clone(), s3, bucket("StagingBucket"), bucket("ArchiveBucket"));
    let sender = &stack.sender;
    let upload = |link: UploadLink, _: Upload, payload: Bytes| async move {
        let headers = link.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        sender.upload(&link.url, headers, payload).await.unwrap().status == 200
    };
    let key = samples::record_id().to_string();
    let source = format!("s3://{}/{key}", reference_bucket());
    let set_source =
        |content: Option<Bytes>| stack.set_reference_source(&key, content.map(|bytes| bytes.to_vec()));
    contract::staging_area(&staging, SystemClock.now(), upload, &source, set_source).await;
}

fn ago(duration: Duration) -> Timestamp {
    let unix_ms = SystemClock.now().unix_ms() - i64::try_from(duration.as_millis()).unwrap();
    Timestamp::from_unix_ms(unix_ms).unwrap()
}

#[tokio::test]
async fn a_link_works_until_it_expires_and_no_longer() {
    let stack = Stack::under_test().await;
    let bucket = |name| stack.deployment.output(name).unwrap().to_owned();
    let s3 = stack.deployment.aws.s3();
    let staging =
        S3StagingArea::new(s3.clone(), s3.clone(), bucket("StagingBucket"), bucket("ArchiveBucket"));
    let payload = Bytes::from_static(b"a payload");
    let begun = contract::sample_upload(&payload);
    for (age, status) in [(Duration::from_mins(61), 403), (Duration::from_mins(50), 200)] {
        let link = staging.upload_link(&begun, ago(age)).await.unwrap();
        let headers = link.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let answer = stack.sender.upload(&link.url, headers, payload.clone()).await.unwrap();
        assert_eq!(answer.status, status, "a link of {} min", age.as_secs() / 60);
    }

    let staged = staging.find(begun.message_id).await.unwrap().unwrap();
    let descriptor = begun.descriptor(Sha256::of(&payload));
    let archived = staging.archive(begun.message_id, &staged, &descriptor, SystemClock.now()).await.unwrap();
    let links = S3PayloadLinks::new(s3);
    for (age, status) in [(Duration::from_secs(61), 403), (Duration::from_secs(20), 200)] {
        let link = links.link(&archived.reference, &descriptor, "name", ago(age)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(
                stack.sender.download(&link.url).await.unwrap().0.status,
                status,
                "{} s",
                age.as_secs()
            );
        }
    }
}
