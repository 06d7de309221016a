//! Every file in `events/` does what its name says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use custody_core::{
    clock::Clock as _,
    digest::Sha256,
    error::ErrorName,
    message::InternalMessage,
    ports::{PayloadCache as _, RecordTable as _},
    stages::{
        aggregate, archive,
        failure::{Failure, FailureInput, RedrivePolicy},
        ingest::Ingest,
        metadata,
    },
};
use custody_test_support::{
    doubles::{
        MemoryArchive, MemoryCache, MemoryDeadLetters, MemoryFailedStore, MemoryMarkers, MemoryNotifier,
        MemoryRedrives, MemorySalvage, MemoryTable, MemoryWorkflow,
    },
    samples::TestClock,
};
use serde_json::Value;

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
        let (cache, archive, markers) = Default::default();
        let (workflow, salvage, clock) =
            (MemoryWorkflow::default(), MemorySalvage::default(), TestClock::default());
        let (cache, archive, markers): (&MemoryCache, &MemoryArchive, &MemoryMarkers) =
            (&cache, &archive, &markers);
        let stage = Ingest { cache, archive, markers, workflow: &workflow, salvage: &salvage, clock: &clock };
        let answer = stage.run(event.as_bytes()).await;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let expected = &expected[&name];
        assert_eq!(answer.status_code, expected["status"], "{name}: {body}");
        assert_eq!(answer.headers["Access-Control-Allow-Origin"], "*");

        if answer.status_code == 200 {
            let started = workflow.started();
            assert_eq!(started.len(), 1, "{name}");
            let message = &started[0];
            assert_eq!(body["messageID"], message.message_id.to_string(), "{name}");
            assert_eq!(body["payload"]["sha256"], expected["payloadSha256"], "{name}");
            let cached = cache.payload(message.message_id).await.unwrap().unwrap();
            assert_eq!(expected["payloadSha256"], cached.sha256.to_string(), "{name}");
            assert!(cache.is_pending(message.message_id), "{name}");
            assert!(salvage.requests().is_empty());
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
            assert!(workflow.started().is_empty() && cache.pending_messages().is_empty(), "{name}");
            let salvaged = salvage.requests();
            assert_eq!(salvaged.len(), 1, "{name}");
            assert!(!salvaged[0].contains("sample-key-value"), "{name}: {}", salvaged[0]);
            FailureInput::parse(&salvaged[0]).expect("the failure function reads what ingest hands over");
        }
    }
}

#[tokio::test]
async fn archive_takes_every_event_as_expected() {
    for (name, event) in events("archive") {
        let Some(message) = read::<InternalMessage>(&name, &event) else { continue };
        let (cache, archive, clock) =
            (MemoryCache::default(), MemoryArchive::default(), TestClock::default());
        let key = message.message_id.archive_key();
        match message.storage_context.redis_reference {
            Some(_) => (&cache).put(&message, &PAYLOAD.into(), None).await.unwrap(),
            None => archive.plant(&key, PAYLOAD),
        }
        for run in ["first", "duplicate"] {
            let receipt = archive::run(&&cache, &&archive, &&clock, &message).await.expect(run);
            assert_eq!(receipt.sha256, Sha256::of(PAYLOAD), "{name} {run}");
            assert_eq!(
                archive.objects(),
                BTreeMap::from([(key.clone(), Bytes::from_static(PAYLOAD))]),
                "{name} {run}"
            );
        }
    }
}

#[tokio::test]
async fn metadata_takes_every_event_as_expected() {
    for (name, event) in events("metadata") {
        let Some(message) = read::<InternalMessage>(&name, &event) else { continue };
        let (table, clock) = (MemoryTable::default(), TestClock::default());
        for run in ["first", "duplicate"] {
            let receipt = metadata::run(&&table, &&clock, &message).await.expect(run);
            assert_eq!(receipt.meta_data_reference.primary_key, message.message_id, "{name} {run}");
            assert_eq!(table.item(message.message_id).unwrap().status, "RECEIVED", "{name} {run}");
        }
    }
}

#[tokio::test]
async fn aggregate_takes_every_event_as_expected() {
    for (name, event) in events("aggregate") {
        let clock = TestClock::default();
        let (table, cache, markers) =
            (MemoryTable::default(), MemoryCache::default(), MemoryMarkers::default());
        if name.starts_with("receipt-of-another") {
            let input = serde_json::from_str(&event).unwrap();
            let error = aggregate::run(&&table, &&cache, &&markers, &&clock, input).await.unwrap_err();
            assert_eq!(error.name, ErrorName::InvalidInput, "{name}");
            continue;
        }
        let Some(input) = read::<aggregate::AggregateInput>(&name, &event) else { continue };
        let id = input.message.message_id;
        (&table).put_received(&input.message, clock.now()).await.unwrap();
        (&cache).put(&input.message, &PAYLOAD.into(), None).await.unwrap();
        for run in ["first", "duplicate"] {
            let done = aggregate::run(&&table, &&cache, &&markers, &&clock, input.clone()).await.expect(run);
            assert!(done.message.storage_context.redis_reference.is_none(), "{name} {run}");
            let item = table.item(id).unwrap();
            assert_eq!(
                (item.status, item.message.storage_context),
                ("COMPLETED", done.message.storage_context)
            );
            assert!(!cache.is_pending(id), "{name} {run}");
        }
    }
}

#[tokio::test]
async fn failure_takes_every_event_as_expected() {
    for (name, event) in events("failure") {
        let Ok(input) = FailureInput::parse(&event) else {
            assert!(!name.starts_with("valid"), "{name}");
            continue;
        };
        assert!(name.starts_with("valid"), "{name}");
        let (cache, archive, markers, table) = (
            MemoryCache::default(),
            MemoryArchive::default(),
            MemoryMarkers::default(),
            MemoryTable::default(),
        );
        let (failed_store, dead_letters, notifier, clock) = (
            MemoryFailedStore::default(),
            MemoryDeadLetters::default(),
            MemoryNotifier::default(),
            TestClock::default(),
        );
        if let FailureInput::Record(record) = &input {
            (&cache).put(&record.message, &PAYLOAD.into(), None).await.unwrap();
        }
        let stage = Failure {
            cache: &cache,
            archive: &archive,
            markers: &markers,
            table: &table,
            failed_store: &failed_store,
            dead_letters: &dead_letters,
            redrives: &MemoryRedrives::default(),
            notifier: &notifier,
            clock: &clock,
            event_source: "urn:custody:test".to_owned(),
            policy: RedrivePolicy { automatic: false, max_attempts: 3 },
        };
        let receipt = stage.run(input).await.expect(&name);
        let letters = dead_letters.letters();
        assert_eq!(letters.len(), 1, "{name}");
        assert_eq!(letters[0].failure.payload_reference, receipt.payload_reference, "{name}");
        assert!(receipt.payload_reference.is_some(), "{name}: the bytes are kept");
        if let Some(id) = receipt.message_id {
            assert_eq!(table.item(id).unwrap().status, "FAILED", "{name}");
            assert_eq!(notifier.published().len(), 1, "{name}");
            assert!(!cache.is_pending(id), "{name}");
        }
    }
}

/// A stage's input, or `None` for an event whose name does not begin with `valid`.
fn read<T: serde::de::DeserializeOwned>(name: &str, event: &str) -> Option<T> {
    let input = serde_json::from_str(event);
    assert_eq!(input.is_ok(), name.starts_with("valid"), "{name}: {:?}", input.err());
    input.ok()
}
