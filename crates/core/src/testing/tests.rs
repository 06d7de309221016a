//! The contract suites, run against the in-memory doubles.

use bytes::Bytes;

use crate::{
    clock::Clock as _,
    testing::{contract, doubles, samples},
    upload::Upload,
};

#[tokio::test]
async fn payload_cache() {
    contract::payload_cache(&doubles::MemoryPayloadCache::default()).await;
}

#[tokio::test]
async fn archive() {
    contract::payload_archive(&doubles::MemoryArchive::default()).await;
}

#[tokio::test]
async fn open_records() {
    let open = doubles::MemoryOpenRecords::default();
    contract::open_records(&open).await;
    contract::idempotency_claims(&open, &open).await;
    contract::concurrent_claims(&open).await;
}

#[tokio::test]
async fn markers() {
    contract::acceptance_markers(&doubles::MemoryMarkers::default()).await;
}

#[tokio::test]
async fn table() {
    contract::record_table(&doubles::MemoryTable::default()).await;
}

#[tokio::test]
async fn access_entries() {
    contract::access_entries(&doubles::MemoryAccessEntries::default()).await;
}

#[tokio::test]
async fn record_queries() {
    let table = doubles::MemoryTable::default();
    contract::record_queries(&table, &table).await;
}

#[tokio::test]
async fn failed_store() {
    contract::failed_store(&doubles::MemoryFailedStore::default()).await;
}

#[tokio::test]
async fn workflow() {
    contract::workflow(&doubles::MemoryWorkflow::default()).await;
}

#[tokio::test]
async fn uploads() {
    contract::uploads(&doubles::MemoryUploads::default()).await;
}

#[tokio::test]
async fn staging_area() {
    const SOURCE: &str = "s3://scans/contract";
    let staging = doubles::MemoryStagingArea::default();
    let upload = |_, upload: Upload, payload: Bytes| {
        staging.upload(upload.message_id, &payload);
        std::future::ready(true)
    };
    let set_source = |content: Option<Bytes>| {
        match content {
            Some(content) => staging.set_source(SOURCE, Some(&content)),
            None => staging.remove_source(SOURCE),
        }
        std::future::ready(())
    };
    contract::staging_area(&staging, samples::TestClock::default().now(), upload, SOURCE, set_source).await;
}
