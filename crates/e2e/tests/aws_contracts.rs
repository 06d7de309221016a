//! The AWS adapters keep the same contracts as their in-memory doubles. They run as the account's administrator on the
//! deployed stores, with ids of their own.

use custody_common::aws::{DynamoTable, S3Archive, S3FailedStore, S3PendingMarkers, StateMachine};
use custody_e2e::Stack;
use custody_test_support::contract;

#[tokio::test]
async fn the_s3_archive_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("ArchiveBucket").unwrap();
    contract::payload_archive(&S3Archive::new(stack.deployment.aws.s3(), bucket.to_owned())).await;
}

#[tokio::test]
async fn the_pending_markers_keep_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("PendingBucket").unwrap();
    contract::pending_markers(&S3PendingMarkers::new(stack.deployment.aws.s3(), bucket.to_owned())).await;
}

#[tokio::test]
async fn the_failed_store_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("FailedBucket").unwrap();
    contract::failed_store(&S3FailedStore::new(stack.deployment.aws.s3(), bucket.to_owned())).await;
}

#[tokio::test]
async fn the_table_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let table = stack.deployment.output("TableName").unwrap();
    contract::record_table(&DynamoTable::new(stack.deployment.aws.dynamodb(), table.to_owned())).await;
}

#[tokio::test]
async fn the_state_machine_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let arn = stack.deployment.output("StateMachineArn").unwrap();
    contract::workflow(&StateMachine::new(stack.deployment.aws.step_functions(), arn.to_owned())).await;
}
