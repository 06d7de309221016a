//! Records and clocks for tests.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::world::FIRST_LOOK;
use crate::{
    access::{AccessEntry, Credential, Role},
    clock::{Clock, Timestamp},
    digest::Sha256,
    message::{InternalMessage, PayloadDescriptor, PayloadEncoding, Redrive, SecurityContext},
    metadata::MessageMetadata,
    open_record::OpenRecord,
    receipt::Durability,
    record_id::RecordId,
};

/// A clock that a test controls. It starts at 2026-11-20T22:21:00Z and changes only when a test moves it.
#[derive(Clone, Debug)]
pub struct TestClock(Arc<AtomicI64>);

impl Default for TestClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(1_795_213_260_000)))
    }
}

impl TestClock {
    /// Moves the clock forward. A negative number moves it backward.
    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::Relaxed)).expect("a test clock stays in range")
    }
}

/// The ids of the API keys in the requests of tests and in `events/`. Each belongs to a producer of its own, which may write
/// records of every source system.
pub const API_KEYS: [&str; 3] = ["k-1", "caller", "k1e2y3i4d5"];

/// Returns the access entries of [`API_KEYS`]. Their holders may send the objects of the bucket `scans` by reference.
pub fn access_entries() -> impl Iterator<Item = (Credential, AccessEntry)> {
    let references = vec!["s3://scans/*".parse().expect("a sample is a pattern")];
    API_KEYS.into_iter().map(move |id| {
        let entry = AccessEntry { references: references.clone(), ..producer(id, &["*"]) };
        (Credential::ApiKey(id.to_owned()), entry)
    })
}

/// Creates the access entry of a producer that may write records of these source systems.
pub fn producer(name: &str, sources: &[&str]) -> AccessEntry {
    let sources = sources.iter().map(|source| source.parse().expect("a sample is a pattern")).collect();
    AccessEntry {
        principal: name.to_owned(),
        role: Role::Producer { sources },
        references: Vec::new(),
        expires_at: None,
        added_at: TestClock::default().now(),
    }
}

/// Creates a new record id with the start time of the test clock.
pub fn record_id() -> RecordId {
    RecordId::mint(TestClock::default().now())
}

/// Creates the message of a new record with this payload. The payload is stored nowhere.
pub fn message(payload: &[u8]) -> InternalMessage {
    message_of(record_id(), payload)
}

/// Creates the message of record `id` with this payload.
pub fn message_of(id: RecordId, payload: &[u8]) -> InternalMessage {
    let metadata = r#"{"messageType":"sample","sourceSystemID":"contract-suite","sourceTransactionID":"tx-1",
        "dateTime":"2026-11-20 22:20:59.5","note":{"nested":[1,2.5,true,null,"ü"]}}"#;
    let descriptor = PayloadDescriptor {
        sha256: Sha256::of(payload),
        size_bytes: payload.len() as u64,
        content_type: "application/octet-stream".to_owned(),
        encoding: PayloadEncoding::Base64,
    };
    let metadata = MessageMetadata::parse(metadata, 0).expect("the sample metadata is valid");
    InternalMessage::new(id, metadata, descriptor, SecurityContext::default())
}

/// Creates the message of the next attempt of the same record.
pub fn redriven(message: &InternalMessage) -> InternalMessage {
    let redriven_at =
        Timestamp::from_unix_ms(message.received_at.unix_ms() + 600_000).expect("ten minutes on");
    let redrive = Redrive { attempt: message.attempt().next().number(), redriven_at, history: Vec::new() };
    InternalMessage { redrive: Some(redrive), ..message.clone() }
}

/// Creates the open record of an attempt that has just begun. Its first look is due after [`FIRST_LOOK`].
pub fn open_record(message: &InternalMessage) -> OpenRecord {
    let now = message.begun_at();
    OpenRecord::begin(message.clone(), Durability::Replicated, None, now, now.after(FIRST_LOOK))
}
