//! The AWS adapters keep the same contracts as their in-memory doubles. They run as the account's administrator on the
//! deployed stores, with ids of their own.

use bytes::Bytes;
use custody_common::aws::{DynamoTable, S3Archive, S3FailedStore, S3PendingMarkers, StateMachine};
use custody_core::{
    message::InternalMessage,
    ports::{FailedStore as _, PendingMarkers as _},
};
use custody_e2e::Stack;
use custody_test_client::verify;
use custody_test_support::{contract, samples};

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
    let markers = S3PendingMarkers::new(stack.deployment.aws.s3(), bucket.to_owned());
    contract::pending_markers(&markers).await;
    contract::idempotency_claims(&markers).await;

    // A marker is there until it is cleared, and tells all that is needed to go on.
    let message = samples::message(b"payload");
    let key = format!("pending/{}", message.message_id);
    markers.mark(&message).await.unwrap();
    let stored = verify::object(&stack.deployment, bucket, &key).await.unwrap();
    assert_eq!(serde_json::from_slice::<InternalMessage>(&stored).unwrap(), message);
    markers.clear(message.run()).await.unwrap();
    assert!(verify::object(&stack.deployment, bucket, &key).await.is_err());
}

#[tokio::test]
async fn the_failed_store_keeps_the_contract() {
    let stack = Stack::under_test().await;
    let bucket = stack.deployment.output("FailedBucket").unwrap();
    let store = S3FailedStore::new(stack.deployment.aws.s3(), bucket.to_owned());
    contract::failed_store(&store).await;

    let key = format!("records/{}", samples::record_id().archive_key());
    store.keep(&key, Bytes::from_static(b"\0kept\xff")).await.unwrap();
    assert_eq!(verify::object(&stack.deployment, bucket, &key).await.unwrap(), b"\0kept\xff");
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
