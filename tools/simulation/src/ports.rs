//! The ports of one process: the stores in memory and the simulated services, each behind faults.

use std::sync::Arc;

use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    error::{ErrorName, StageError},
    manifest::Manifest,
    message::PayloadDescriptor,
    payload_source::PayloadSource,
    ports::{ArchivedObject, Deployment, PayloadArchive, intercepted::Intercepted},
    testing::doubles::{
        MemoryAccessEntries, MemoryArchive, MemoryFailedStore, MemoryMarkers, MemoryOpenRecords,
        MemoryPayloadCache, MemoryPayloadLinks, MemoryStagingArea, MemoryTable, MemoryUploads,
    },
};
use futures_util::TryStreamExt as _;

use crate::{
    faulty::Faulty,
    process::Process,
    services::{SimulatedFailureFunction, SimulatedQueue, SimulatedTopic, SimulatedWorkflow},
    world::{SimulatedClock, World},
};

/// A port behind faults.
type Port<P> = Intercepted<P, Faulty>;

/// The deployment of the simulation.
pub(crate) struct Simulated;

impl Deployment for Simulated {
    type Access = Port<MemoryAccessEntries>;
    type Cache = Port<MemoryPayloadCache>;
    type Archive = SentFirst<Port<MemoryArchive>>;
    type FailedStore = Port<MemoryFailedStore>;
    type OpenRecords = Port<MemoryOpenRecords>;
    type Claims = Port<MemoryOpenRecords>;
    type Markers = Port<MemoryMarkers>;
    type RecordTable = Port<MemoryTable>;
    type RecordQueries = Port<MemoryTable>;
    type PayloadLinks = MemoryPayloadLinks;
    type Uploads = Port<MemoryUploads>;
    type Staging = Port<MemoryStagingArea>;
    type Workflow = Port<SimulatedWorkflow>;
    type FailureHandler = Port<SimulatedFailureFunction>;
    type DeadLetters = Port<SimulatedQueue>;
    type Notifier = Port<SimulatedTopic>;
    type Clock = SimulatedClock;
}

/// Makes the ports of one process.
#[derive(Clone)]
pub(crate) struct Ports(pub(crate) Faulty);

impl Ports {
    pub(crate) fn of(world: &Arc<World>, process: &Process) -> Self {
        Self(Faulty { world: Arc::clone(world), process: process.clone() })
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.0.world
    }

    fn port<P>(&self, port: P) -> Port<P> {
        Intercepted::new(port, self.0.clone())
    }

    pub(crate) fn access(&self) -> Port<MemoryAccessEntries> {
        self.port(self.world().stores.access.clone())
    }

    pub(crate) fn cache(&self) -> Port<MemoryPayloadCache> {
        self.port(self.world().stores.cache.clone())
    }

    pub(crate) fn archive(&self) -> SentFirst<Port<MemoryArchive>> {
        SentFirst(self.port(self.world().stores.archive.clone()))
    }

    pub(crate) fn failed_store(&self) -> Port<MemoryFailedStore> {
        self.port(self.world().stores.failed_store.clone())
    }

    pub(crate) fn open_records(&self) -> Port<MemoryOpenRecords> {
        self.port(self.world().stores.open_records.clone())
    }

    pub(crate) fn markers(&self) -> Port<MemoryMarkers> {
        self.port(self.world().stores.markers.clone())
    }

    pub(crate) fn record_table(&self) -> Port<MemoryTable> {
        self.port(self.world().stores.record_table.clone())
    }

    pub(crate) fn uploads(&self) -> Port<MemoryUploads> {
        self.port(self.world().stores.uploads.clone())
    }

    pub(crate) fn staging(&self) -> Port<MemoryStagingArea> {
        self.port(self.world().stores.staging.clone())
    }

    pub(crate) fn workflow(&self) -> Port<SimulatedWorkflow> {
        self.port(SimulatedWorkflow(Arc::clone(self.world())))
    }

    pub(crate) fn failure_handler(&self) -> Port<SimulatedFailureFunction> {
        self.port(SimulatedFailureFunction(Arc::clone(self.world())))
    }

    pub(crate) fn dead_letters(&self) -> Port<SimulatedQueue> {
        self.port(SimulatedQueue::DeadLetters(Arc::clone(self.world())))
    }

    pub(crate) fn rejected_requests(&self) -> Port<SimulatedQueue> {
        self.port(SimulatedQueue::RejectedRequests(Arc::clone(self.world())))
    }

    pub(crate) fn notifier(&self) -> Port<SimulatedTopic> {
        self.port(SimulatedTopic(Arc::clone(self.world())))
    }

    pub(crate) fn clock(&self) -> SimulatedClock {
        SimulatedClock(Arc::clone(self.world()))
    }
}

/// An archive to which a payload is sent before the archive does anything with it, now or late: the bytes have then left
/// the process.
#[derive(Clone, Debug)]
pub(crate) struct SentFirst<A>(A);

impl<A: PayloadArchive> PayloadArchive for SentFirst<A> {
    async fn store(
        &self,
        key: &str,
        payload: PayloadSource,
        descriptor: &PayloadDescriptor,
        now: Timestamp,
    ) -> Result<ArchivedObject, StageError> {
        let sent: Vec<Bytes> = payload.pieces().try_collect().await.map_err(|error| {
            StageError::new(ErrorName::ArchiveUnavailable, "send a payload").caused_by(error)
        })?;
        self.0.store(key, Bytes::from(sent.concat()).into(), descriptor, now).await
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        self.0.find(key).await
    }

    async fn store_manifest(&self, manifest: &Manifest) -> Result<(), StageError> {
        self.0.store_manifest(manifest).await
    }

    async fn manifest(&self, attempt: Attempt) -> Result<Option<Manifest>, StageError> {
        self.0.manifest(attempt).await
    }
}
