//! Tests of the decorator: every call passes through the interceptor, under the name of its port.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    clock::Clock as _,
    dead_letter::DeadLetter,
    failed_record::FailedRecord,
    idempotency::IdempotencyKey,
    open_record::OpenKind,
    ports::{
        AcceptanceMarkers as _, AccessEntries as _, DeadLetters as _, FailedStore as _, FailureHandler as _,
        IdempotencyClaims as _, OpenRecords as _, PayloadArchive as _, PayloadCache as _, RecordTable as _,
        Turn, Workflow as _,
    },
    testing::{contract, samples, world::World},
};

const PAYLOAD: &[u8] = b"hello, custody";

/// Makes every call, and notes it.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Call>>>);

impl Interceptor for Noting {
    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl Future<Output = Result<T, StageError>> + Send + 'static,
    ) -> Result<T, StageError> {
        self.0.lock().unwrap().push(call);
        effect.await
    }
}

#[tokio::test]
async fn an_intercepted_port_keeps_the_contract_of_the_port() {
    let (world, noting) = (World::default(), Noting::default());
    contract::payload_cache(&Intercepted::new(world.cache, noting.clone())).await;
    contract::payload_archive(&Intercepted::new(world.archive, noting.clone())).await;
    contract::failed_store(&Intercepted::new(world.failed_store, noting.clone())).await;
    let open_records = Intercepted::new(world.open_records, noting.clone());
    contract::open_records(&open_records).await;
    contract::idempotency_claims(&open_records, &open_records).await;
    contract::acceptance_markers(&Intercepted::new(world.markers, noting.clone())).await;
    contract::record_table(&Intercepted::new(world.record_table, noting.clone())).await;
    contract::access_entries(&Intercepted::new(world.access, noting.clone())).await;
    contract::workflow(&Intercepted::new(world.workflow, noting.clone())).await;
}

#[tokio::test]
async fn every_call_has_the_name_of_its_port_and_its_record() {
    let (world, noting) = (World::default(), Noting::default());
    let message = samples::message(PAYLOAD);
    let (id, record, now) = (message.message_id, samples::open_record(&message), world.clock.now());
    let failure = contract::failure_of(&message);
    let noted = |port: PortName, operation: &'static str, record: Option<RecordId>| {
        assert_eq!(noting.0.lock().unwrap().pop(), Some(Call { port, operation, record }));
    };
    let cache = Intercepted::new(world.cache.clone(), noting.clone());
    cache.put(id, PAYLOAD.into()).await.unwrap();
    noted(PortName::PayloadCache, "put", Some(id));
    let source = cache.source(id).await.unwrap().unwrap();
    noted(PortName::PayloadCache, "source", Some(id));
    source.sha256().await.unwrap();
    noted(PortName::PayloadCache, "read pieces", Some(id));
    cache.unlink(id).await.unwrap();
    noted(PortName::PayloadCache, "unlink", Some(id));
    Intercepted::new(world.archive.clone(), noting.clone()).find(&id.archive_key()).await.unwrap();
    noted(PortName::PayloadArchive, "find", None);
    Intercepted::new(world.failed_store.clone(), noting.clone()).fetch(&id.preserved_key()).await.unwrap();
    noted(PortName::FailedBucket, "fetch", None);
    let open_records = Intercepted::new(world.open_records.clone(), noting.clone());
    open_records.accept(&record, None).await.unwrap();
    noted(PortName::OpenRecords, "accept", Some(id));
    open_records.take_turn(&record, Turn::until(now)).await.unwrap();
    noted(PortName::OpenRecords, "take turn", Some(id));
    open_records.list(OpenKind::InProgress, 1).await.unwrap();
    noted(PortName::OpenRecords, "list", None);
    let key = IdempotencyKey::of_header("caller", "key").unwrap();
    open_records.renew(&key, id, now).await.unwrap();
    noted(PortName::IdempotencyClaims, "renew", Some(id));
    Intercepted::new(world.markers.clone(), noting.clone()).mark(&record).await.unwrap();
    noted(PortName::AcceptanceMarkers, "mark", Some(id));
    Intercepted::new(world.record_table.clone(), noting.clone()).put_received(&message, now).await.unwrap();
    noted(PortName::RecordTable, "put received", Some(id));
    Intercepted::new(world.access.clone(), noting.clone()).list().await.unwrap();
    noted(PortName::AccessEntries, "list", None);
    Intercepted::new(world.workflow.clone(), noting.clone()).start(&message, 1).await.unwrap();
    noted(PortName::Workflow, "start", Some(id));
    let failed = FailedRecord {
        message: message.clone(),
        archive: None,
        metadata: None,
        failures: Vec::new(),
        execution_arn: None,
    };
    Intercepted::new(world.failure_handler.clone(), noting.clone()).handle(&failed).await.unwrap();
    noted(PortName::FailureHandler, "handle", Some(id));
    let dead_letter = DeadLetter::of_record(&message, failure, Vec::new());
    Intercepted::new(world.dead_letters.clone(), noting.clone()).send(&dead_letter).await.unwrap();
    noted(PortName::DeadLetters, "send", Some(id));
}
