//! The contract suite of the payload cache.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::{ports::PayloadCache, testing::samples};

/// Checks the contract of [`PayloadCache`].
pub async fn payload_cache(cache: &impl PayloadCache) {
    absence_is_definite(cache).await;
    bytes_come_back_as_they_went_in(cache).await;
    an_empty_payload_is_a_payload(cache).await;
    every_call_may_be_repeated(cache).await;
}

async fn absence_is_definite(cache: &impl PayloadCache) {
    let unknown = samples::record_id();
    assert_eq!(cache.payload(unknown).await.unwrap(), None, "an unknown record has no payload");
    assert!(cache.source(unknown).await.unwrap().is_none(), "an unknown record must have no pieces");
    assert_eq!(cache.size(unknown).await.unwrap(), None, "an unknown record must have no size");
    assert!(!cache.persist(unknown).await.unwrap(), "an unknown record must have no payload to persist");
    cache.unlink(unknown).await.expect("unlinking an absent payload must succeed");
}

async fn bytes_come_back_as_they_went_in(cache: &impl PayloadCache) {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for payload in [bytes.as_slice(), b"audit"] {
        let id = samples::record_id();
        cache.put(id, Bytes::copy_from_slice(payload)).await.unwrap();
        let read = cache.payload(id).await.unwrap().unwrap();
        assert_eq!(read, payload, "bytes come back as they went in");
        assert_eq!(cache.size(id).await.unwrap(), Some(payload.len() as u64));
        let source = cache.source(id).await.unwrap().unwrap();
        assert_eq!(source.size_bytes(), payload.len() as u64);
        for _ in 0..2 {
            let pieces: Vec<Bytes> = source.pieces().try_collect().await.unwrap();
            assert_eq!(pieces.concat(), payload, "the pieces must be the payload at each reading");
        }
        // If a reader stops early, the next reader must not get the rest of its answer.
        let mut pieces = cache.source(id).await.unwrap().unwrap().pieces();
        pieces.try_next().await.unwrap();
        drop(pieces);
        assert_eq!(cache.payload(id).await.unwrap().unwrap(), payload);
        let source = cache.source(id).await.unwrap().unwrap();
        source.pieces().try_for_each(async |_| Ok(())).await.unwrap();
        cache.unlink(id).await.unwrap();
        assert!(source.sha256().await.is_err(), "reading it must fail");
    }
    let (one, other) = (samples::record_id(), samples::record_id());
    assert_ne!(cache.reference(one).key, cache.reference(other).key, "each record must have its own key");
    assert_eq!(cache.reference(one).server, cache.reference(other).server, "one cache");
}

async fn an_empty_payload_is_a_payload(cache: &impl PayloadCache) {
    let id = samples::record_id();
    cache.put(id, Bytes::from_static(b"")).await.unwrap();
    assert_eq!(cache.size(id).await.unwrap(), Some(0));
    assert_eq!(cache.payload(id).await.unwrap().unwrap(), b"".as_slice());
    assert!(cache.persist(id).await.unwrap());
}

async fn every_call_may_be_repeated(cache: &impl PayloadCache) {
    let id = samples::record_id();
    for _ in 0..2 {
        cache.put(id, Bytes::from_static(b"payload")).await.unwrap();
    }
    for _ in 0..2 {
        assert!(cache.persist(id).await.unwrap(), "a persisted payload must be reported as present");
    }
    for _ in 0..2 {
        cache.unlink(id).await.unwrap();
    }
    assert_eq!(cache.payload(id).await.unwrap(), None, "it must be absent");
    assert!(!cache.persist(id).await.unwrap());
}
