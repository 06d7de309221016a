//! Tests of the archive stage: it reads the payload from the store that has it.

use bytes::Bytes;

use crate::{
    clock::Clock as _,
    error::ErrorName,
    ports::{FailedStore as _, PayloadArchive as _, PayloadCache as _},
    stages::scenarios::{PAYLOAD, accepted},
    testing::{samples, world::World},
};

#[tokio::test]
async fn a_preserved_payload_is_archived_without_the_cache() {
    let world = World::default();
    let message = samples::redriven(&samples::message(PAYLOAD));
    let key = message.message_id.preserved_key();
    world.failed_store.preserve(&key, PAYLOAD.into()).await.unwrap();
    // A redrive needs no cache.
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let receipt = world.archive_stage().run(&message).await.unwrap();
    assert_eq!(receipt.sha256, message.payload.sha256);
    assert_eq!(world.archive.objects()[&message.message_id.archive_key()], PAYLOAD);
}

#[tokio::test]
async fn every_attempt_that_archives_leaves_a_manifest_after_the_payload() {
    let world = World::default();
    let record = accepted(&world).await;
    let stage = world.archive_stage();
    // An earlier run has stored the payload, and its process ended before the manifest.
    let (key, payload) = (record.id().archive_key(), &record.message.payload);
    world.archive.store(&key, Bytes::from_static(PAYLOAD).into(), payload, world.clock.now()).await.unwrap();

    world.clock.advance_ms(60_000);
    let receipt = stage.run(&record.message).await.unwrap();
    let first = world.archive.manifest(record.message.attempt()).await.unwrap().unwrap();
    assert_eq!(first.archive, receipt);
    assert_eq!(first.message.metadata, record.message.metadata);
    assert_eq!(first.message.storage_context.redis_reference, None, "the cache is no lasting place");

    let second = samples::redriven(&record.message);
    stage.run(&second).await.unwrap();
    let manifest = world.archive.manifest(second.attempt()).await.unwrap().unwrap();
    assert_eq!((manifest.archive, manifest.message.redrive), (receipt, second.redrive));
    assert_eq!(world.archive.manifest(record.message.attempt()).await.unwrap(), Some(first));
}

#[tokio::test]
async fn a_payload_that_left_the_cache_for_the_archive_is_no_missing_payload() {
    let world = World::default();
    let record = accepted(&world).await;
    let stage = world.archive_stage();
    let first = stage.run(&record.message).await.unwrap();
    world.cache.unlink(record.id()).await.unwrap();
    world.clock.advance_ms(60_000);
    let again = stage.run(&record.message).await.unwrap();
    assert_eq!(again, first, "a late repetition reports what was stored first, its time included");
}

#[tokio::test]
async fn only_definite_absence_makes_a_payload_missing() {
    let world = World::default();
    let message = samples::message(PAYLOAD);
    let stage = world.archive_stage();
    let error = stage.run(&message).await.unwrap_err();
    assert_eq!(error.name, ErrorName::PayloadMissing, "each store has answered");
    for (fail, name) in [
        (&(|on| world.cache.fail_with(on)) as &dyn Fn(Option<ErrorName>), ErrorName::CacheUnavailable),
        (&|on| world.failed_store.fail_with(on), ErrorName::FailedStoreUnavailable),
        (&|on| world.archive.fail_with(on), ErrorName::ArchiveUnavailable),
    ] {
        fail(Some(name));
        assert_eq!(stage.run(&message).await.unwrap_err().name, name);
        fail(None);
    }
}

#[tokio::test]
async fn a_cached_payload_with_another_digest_is_not_archived() {
    let world = World::default();
    let record = accepted(&world).await;
    world.cache.corrupt(record.id(), b"altered");
    let error = world.archive_stage().run(&record.message).await.unwrap_err();
    assert_eq!(error.name, ErrorName::PayloadCorrupted);
    assert!(world.archive.objects().is_empty());
}

#[tokio::test]
async fn a_payload_that_is_altered_on_its_way_to_the_archive_is_sent_again() {
    let world = World::default();
    let record = accepted(&world).await;
    world.archive.corrupt_next();
    let error = world.archive_stage().run(&record.message).await.unwrap_err();
    assert_eq!(error.name, ErrorName::ArchiveUnavailable, "what the cache has is sound: {error}");
    world.archive_stage().run(&record.message).await.unwrap();
    assert_eq!(world.archive.content(&record.id().archive_key()).unwrap(), PAYLOAD);
}

#[tokio::test]
async fn the_failed_bucket_makes_up_for_a_cached_payload_that_was_altered() {
    let world = World::default();
    let record = accepted(&world).await;
    world.failed_store.preserve(&record.id().preserved_key(), PAYLOAD.into()).await.unwrap();
    world.cache.corrupt(record.id(), b"altered");
    world.archive_stage().run(&record.message).await.unwrap();
    assert_eq!(world.archive.content(&record.id().archive_key()).unwrap(), PAYLOAD);
}

#[tokio::test]
async fn a_preserved_payload_that_was_altered_does_not_hide_a_cache_that_may_have_the_right_one() {
    let world = World::default();
    let record = accepted(&world).await;
    let altered = Bytes::from_static(b"altered");
    world.failed_store.preserve(&record.id().preserved_key(), altered).await.unwrap();
    world.cache.fail_with(Some(ErrorName::CacheUnavailable));
    let error = world.archive_stage().run(&record.message).await.unwrap_err();
    assert_eq!(error.name, ErrorName::CacheUnavailable, "the cache may answer the next try: {error}");
}

#[tokio::test]
async fn an_archived_object_of_the_same_size_with_other_bytes_is_a_conflict() {
    let world = World::default();
    let mut message = accepted(&world).await.message;
    let receipt = world.archive_stage().run(&message).await.unwrap();
    world.archive.insert_unconditionally(&message.message_id.archive_key(), &PAYLOAD.to_ascii_uppercase());
    message.storage_context.s3_reference = Some(receipt.s3_reference);
    let error = world.archive_stage().run(&message).await.unwrap_err();
    assert_eq!(error.name, ErrorName::ArchiveConflict, "{error}");
}

#[tokio::test]
async fn a_cached_payload_that_breaks_off_is_no_fault_of_the_archive() {
    let world = World::default();
    let record = accepted(&world).await;
    world.cache.set_breaks_off(true);
    let error = world.archive_stage().run(&record.message).await.unwrap_err();
    assert_eq!(error.name, ErrorName::CacheUnavailable, "{error}");
    assert!(world.archive.objects().is_empty(), "half a payload is none");

    world.failed_store.preserve(&record.id().preserved_key(), PAYLOAD.into()).await.unwrap();
    world.archive_stage().run(&record.message).await.expect("the failed bucket has the payload, too");
    assert_eq!(world.archive.content(&record.id().archive_key()).unwrap(), PAYLOAD);
}

#[tokio::test]
async fn a_payload_that_another_run_has_archived_and_unlinked_while_it_was_read_is_archived() {
    let world = World::default();
    let record = accepted(&world).await;
    world.archive_stage().run(&record.message).await.unwrap();
    world.cache.set_breaks_off(true);
    let receipt = world.archive_stage().run(&record.message).await.unwrap();
    assert_eq!(receipt.sha256, record.message.payload.sha256);
}
