//! The contract suites, run against the in-memory doubles.

use crate::testing::{contract, doubles};

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
