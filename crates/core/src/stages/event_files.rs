//! Tests that every file in `events/` has the effect that its name states, except those of `reconcile/` and `redrive/`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde_json::Value;

use crate::{
    clock::Clock as _,
    digest::Sha256,
    error::ErrorName,
    failed_record::FailedRecord,
    message::InternalMessage,
    ports::{OpenRecords as _, PayloadArchive as _, PayloadCache as _, RecordTable as _},
    stages::{aggregate, metadata},
    testing::{
        samples,
        world::{POLICY, World},
    },
};

const PAYLOAD: &[u8] = b"hello, custody";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("events")
}

/// The files of a function's folder by name.
fn events(function: &str) -> BTreeMap<String, String> {
    let read = |path: PathBuf| {
        (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap())
    };
    let events: BTreeMap<_, _> =
        folder().join(function).read_dir().unwrap().map(|entry| read(entry.unwrap().path())).collect();
    assert!(!events.is_empty());
    events
}

#[tokio::test]
async fn ingest_answers_every_event_as_expected() {
    let expected: BTreeMap<String, Value> =
        serde_json::from_str(&fs::read_to_string(folder().join("ingest.expected.json")).unwrap()).unwrap();
    let events = events("ingest");
    assert_eq!(events.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());

    for (name, event) in events {
        let world = World::default();
        let ingest = world.ingest();
        let answer = ingest.run(Bytes::from(event)).await;
        ingest.follow_up(answer.follow_up).await;
        let answer = answer.response;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let expected = &expected[&name];
        assert_eq!(answer.status_code, expected["status"], "{name}: {body}");
        assert_eq!(answer.headers["Access-Control-Allow-Origin"], "*");

        if answer.status_code == 200 {
            let started = world.workflow.started();
            assert_eq!(started.len(), 1, "{name}");
            let message = &started[0];
            assert_eq!(body["messageID"], message.message_id.to_string(), "{name}");
            assert_eq!(body["payload"]["sha256"], expected["payloadSha256"], "{name}");
            let cached = world.cache.payload(message.message_id).await.unwrap().unwrap();
            assert_eq!(expected["payloadSha256"], Sha256::of(&cached).to_string(), "{name}");
            assert_eq!(world.open_records.get(message.message_id).unwrap().message, *message, "{name}");
            assert!(world.rejected_requests.all().is_empty());
        } else {
            assert_eq!(answer.headers["Content-Type"], "application/problem+json");
            let slug = expected["problem"].as_str().unwrap();
            assert_eq!(body["type"], format!("urn:custody:problem:{slug}"), "{name}: {body}");
            let detail = body["detail"].as_str().unwrap();
            assert!(
                ["send", "correct", "remove", "move", "shorten", "flatten"]
                    .iter()
                    .any(|advice| detail.contains(advice)),
                "{name}: {detail}"
            );
            assert!(world.workflow.started().is_empty() && world.open_records.all().is_empty(), "{name}");
            let stored = world.failed_store.objects();
            assert_eq!((stored.len(), world.rejected_requests.all().len()), (1, 1), "{name}");
            let text = String::from_utf8(stored.values().next().unwrap().to_vec()).unwrap();
            assert!(!text.contains("sample-key-value"), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn archive_takes_every_event_as_expected() {
    for (name, event) in events("archive") {
        let Some(message) = read::<InternalMessage>(&name, &event) else { continue };
        let world = World::default();
        let key = message.message_id.archive_key();
        match message.storage_context.redis_reference {
            Some(_) => world.cache.put(message.message_id, PAYLOAD.into()).await.unwrap(),
            None => world.archive.insert_unconditionally(&key, PAYLOAD),
        }
        for time in ["first", "second"] {
            let receipt = world.archive_stage().run(&message).await.expect(time);
            assert_eq!(receipt.sha256, Sha256::of(PAYLOAD), "{name} {time}");
            let manifest = world.archive.manifest(message.attempt()).await.unwrap().expect(time);
            let objects = BTreeMap::from([
                (key.clone(), Bytes::from_static(PAYLOAD)),
                (message.attempt().manifest_key(), Bytes::from(manifest.to_json())),
            ]);
            assert_eq!(world.archive.objects(), objects, "{name} {time}");
        }
    }
}

#[tokio::test]
async fn metadata_takes_every_event_as_expected() {
    for (name, event) in events("metadata") {
        let Some(message) = read::<InternalMessage>(&name, &event) else { continue };
        let world = World::default();
        let mut receipts = Vec::new();
        for time in ["first", "second"] {
            let receipt = metadata::run(&world.record_table, &world.clock, &message).await.expect(time);
            assert_eq!(receipt.metadata_reference.primary_key, message.message_id, "{name} {time}");
            assert_eq!(
                world.record_table.item(message.message_id).unwrap().status,
                "RECEIVED",
                "{name} {time}"
            );
            receipts.push(receipt);
            world.clock.advance_ms(1000);
        }
        assert_eq!(receipts[0], receipts[1], "{name}: what was stored first is what is reported");
    }
}

#[tokio::test]
async fn aggregate_takes_every_event_as_expected() {
    for (name, event) in events("aggregate") {
        let world = World::default();
        let (table, cache, clock) = (&world.record_table, &world.cache, &world.clock);
        if name.starts_with("receipt-of-another") {
            let input = serde_json::from_str(&event).unwrap();
            let error = aggregate::run(table, cache, clock, input).await.unwrap_err();
            assert_eq!(error.name, ErrorName::InvalidInput, "{name}");
            continue;
        }
        let Some(input) = read::<aggregate::AggregateInput>(&name, &event) else { continue };
        let id = input.message.message_id;
        table.put_received(&input.message, clock.now()).await.unwrap();
        cache.put(id, PAYLOAD.into()).await.unwrap();
        let mut times = Vec::new();
        for time in ["first", "second"] {
            let done = aggregate::run(table, cache, clock, input.clone()).await.expect(time);
            assert!(done.unlinked && !cache.holds(id), "{name} {time}");
            let item = table.item(id).unwrap();
            let context = done.message.storage_context;
            assert!(context.redis_reference.is_none(), "{name} {time}");
            assert_eq!((item.status, item.message.storage_context), ("COMPLETED", context));
            times.push(done.completed_at);
            clock.advance_ms(1000);
        }
        assert_eq!(times[0], times[1], "{name}");

        // A cache that is not available leaves the record open, and the stage succeeds.
        cache.fail_with(Some(ErrorName::CacheUnavailable));
        assert!(!aggregate::run(table, cache, clock, input).await.unwrap().unlinked, "{name}");
    }
}

#[tokio::test]
async fn failure_takes_every_event_as_expected() {
    for (name, event) in events("failure") {
        let Some(record) = read::<FailedRecord>(&name, &event) else { continue };
        let world = World::default();
        let id = record.message.message_id;
        world.cache.put(id, PAYLOAD.into()).await.unwrap();
        world.open_records.accept(&samples::open_record(&record.message), None).await.unwrap();
        let stage = world.failure(crate::redrive_policy::RedrivePolicy { automatic: false, ..POLICY });
        assert!(stage.run(record).await.expect(&name).finished, "{name}");
        let dead_letters = world.dead_letters.all();
        assert_eq!(dead_letters.len(), 1, "{name}");
        assert!(
            dead_letters[0].failure.payload_reference.is_some(),
            "{name}: the payload is archived or preserved"
        );
        assert_eq!(world.record_table.item(id).unwrap().status, "FAILED", "{name}");
        assert_eq!(world.topic.published().len(), 1, "{name}");
    }
}

/// A stage's input, or `None` for an event whose name does not begin with `valid`.
fn read<T: serde::de::DeserializeOwned>(name: &str, event: &str) -> Option<T> {
    let input = serde_json::from_str(event);
    assert_eq!(input.is_ok(), name.starts_with("valid"), "{name}: {:?}", input.err());
    input.ok()
}
