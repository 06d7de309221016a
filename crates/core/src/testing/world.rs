//! A deployment in memory: one double of each store and service, and the stages that use them.

use std::{sync::Arc, time::Duration};

use crate::{
    access::AccessControl,
    breaker::Breaker,
    ports::Deployment,
    redrive_policy::{PATIENCE, RedrivePolicy},
    stages::{
        archive::Archive,
        failure::Failure,
        ingest::{Ingest, TABLE_BREAKER_PAUSE},
        query::Query,
        reconcile::{Reconcile, Settings},
        redrive::Redrive,
        upload::{Transfers, UploadApi},
    },
};

use super::{
    doubles::{
        MemoryAccessEntries, MemoryArchive, MemoryDeadLetters, MemoryFailedStore, MemoryFailureHandler,
        MemoryMarkers, MemoryNotifier, MemoryOpenRecords, MemoryPayloadCache, MemoryPayloadLinks,
        MemoryStagingArea, MemoryTable, MemoryUploads, MemoryWorkflow,
    },
    samples::{self, TestClock},
};

/// The CloudEvents source of a deployment in memory.
pub const EVENT_SOURCE: &str = "urn:custody:test";

/// The time from a record's acceptance to reconcile's first look at it, in a deployment in memory.
pub const FIRST_LOOK: Duration = Duration::from_mins(2);

/// The doubles of all stores and services of a deployment.
#[derive(Debug)]
#[expect(missing_docs, reason = "each field is named after the double in it")]
pub struct World {
    pub access: MemoryAccessEntries,
    pub cache: MemoryPayloadCache,
    pub archive: MemoryArchive,
    pub failed_store: MemoryFailedStore,
    pub open_records: MemoryOpenRecords,
    pub markers: MemoryMarkers,
    pub record_table: MemoryTable,
    pub uploads: MemoryUploads,
    pub staging: MemoryStagingArea,
    pub workflow: MemoryWorkflow,
    pub failure_handler: MemoryFailureHandler,
    pub dead_letters: MemoryDeadLetters,
    pub rejected_requests: MemoryDeadLetters,
    pub topic: MemoryNotifier,
    pub clock: TestClock,
}

/// The deployment whose ports are the doubles of a [`World`].
#[derive(Debug)]
pub struct InMemory;

impl Deployment for InMemory {
    type Access = MemoryAccessEntries;
    type Cache = MemoryPayloadCache;
    type Archive = MemoryArchive;
    type FailedStore = MemoryFailedStore;
    type OpenRecords = MemoryOpenRecords;
    type Claims = MemoryOpenRecords;
    type Markers = MemoryMarkers;
    type RecordTable = MemoryTable;
    type RecordQueries = MemoryTable;
    type PayloadLinks = MemoryPayloadLinks;
    type Uploads = MemoryUploads;
    type Staging = MemoryStagingArea;
    type Workflow = MemoryWorkflow;
    type FailureHandler = MemoryFailureHandler;
    type DeadLetters = MemoryDeadLetters;
    type Notifier = MemoryNotifier;
    type Clock = TestClock;
}

/// The redrive policy of a production deployment.
pub const POLICY: RedrivePolicy = RedrivePolicy { automatic: true, max_attempts: 3, patience: PATIENCE };

/// The settings of reconcile for tests in memory.
pub const SETTINGS: Settings = Settings {
    first_look: FIRST_LOOK,
    restart_after: Duration::from_mins(7),
    patience: PATIENCE,
    budget: Duration::from_secs(40),
    concurrency: 8,
    max_starts: 2000,
    max_listed: 100_000,
    max_adopted: 1000,
    policy: POLICY,
};

/// The stores are empty, but for the access entries of the callers in tests.
impl Default for World {
    fn default() -> Self {
        let archive = MemoryArchive::default();
        Self {
            access: MemoryAccessEntries::with(samples::access_entries()),
            cache: MemoryPayloadCache::default(),
            staging: MemoryStagingArea::over(archive.clone()),
            uploads: MemoryUploads::default(),
            archive,
            failed_store: MemoryFailedStore::default(),
            open_records: MemoryOpenRecords::default(),
            markers: MemoryMarkers::default(),
            record_table: MemoryTable::default(),
            workflow: MemoryWorkflow::default(),
            failure_handler: MemoryFailureHandler::default(),
            dead_letters: MemoryDeadLetters::default(),
            rejected_requests: MemoryDeadLetters::default(),
            topic: MemoryNotifier::default(),
            clock: TestClock::default(),
        }
    }
}

impl World {
    /// Creates the ingest stage over these doubles.
    pub fn ingest(&self) -> Ingest<InMemory> {
        Ingest {
            access: AccessControl::new(self.access.clone()),
            cache: self.cache.clone(),
            archive: self.archive.clone(),
            open_records: self.open_records.clone(),
            claims: self.open_records.clone(),
            markers: self.markers.clone(),
            workflow: self.workflow.clone(),
            failed_store: self.failed_store.clone(),
            dead_letters: self.dead_letters.clone(),
            rejected_requests: self.rejected_requests.clone(),
            transfers: self.transfers(),
            clock: self.clock.clone(),
            table_breaker: Breaker::new(TABLE_BREAKER_PAUSE),
            first_look: FIRST_LOOK,
        }
    }

    /// Creates the archive stage over these doubles.
    pub fn archive_stage(&self) -> Archive<InMemory> {
        Archive {
            cache: self.cache.clone(),
            failed_store: self.failed_store.clone(),
            archive: self.archive.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Creates the failure stage over these doubles, with this redrive policy.
    pub fn failure(&self, policy: RedrivePolicy) -> Failure<InMemory> {
        Failure {
            cache: self.cache.clone(),
            failed_store: self.failed_store.clone(),
            archive: self.archive.clone(),
            open_records: self.open_records.clone(),
            record_table: self.record_table.clone(),
            dead_letters: self.dead_letters.clone(),
            topic: self.topic.clone(),
            clock: self.clock.clone(),
            event_source: EVENT_SOURCE.to_owned(),
            policy,
        }
    }

    /// Creates the reconcile stage over these doubles, with these settings.
    pub fn reconcile(&self, settings: Settings) -> Reconcile<InMemory> {
        Reconcile {
            cache: self.cache.clone(),
            failed_store: self.failed_store.clone(),
            archive: self.archive.clone(),
            open_records: self.open_records.clone(),
            claims: self.open_records.clone(),
            markers: self.markers.clone(),
            record_table: self.record_table.clone(),
            workflow: self.workflow.clone(),
            failure_handler: self.failure_handler.clone(),
            topic: self.topic.clone(),
            clock: self.clock.clone(),
            event_source: EVENT_SOURCE.to_owned(),
            settings,
        }
    }

    /// Creates the query stage over these doubles.
    pub fn query(&self) -> Query<InMemory> {
        Query {
            access: AccessControl::new(self.access.clone()),
            markers: self.markers.clone(),
            open_records: self.open_records.clone(),
            records: self.record_table.clone(),
            links: MemoryPayloadLinks::default(),
            clock: self.clock.clone(),
        }
    }

    /// Creates the upload stage over these doubles. Producers may send objects of the bucket `scans` by reference.
    pub fn upload(&self) -> Arc<UploadApi<InMemory>> {
        Arc::new(UploadApi { access: AccessControl::new(self.access.clone()), transfers: self.transfers() })
    }

    /// Creates the uploads over these doubles.
    pub fn transfers(&self) -> Transfers<InMemory> {
        Transfers {
            uploads: self.uploads.clone(),
            staging: self.staging.clone(),
            open_records: self.open_records.clone(),
            claims: self.open_records.clone(),
            workflow: self.workflow.clone(),
            allowed_sources: "arn:aws:s3:::scans/*".parse().expect("the sample is a list of ARNs"),
            clock: self.clock.clone(),
            first_look: FIRST_LOOK,
        }
    }

    /// Creates the redrive stage over these doubles.
    pub fn redrive(&self) -> Redrive<InMemory> {
        Redrive {
            open_records: self.open_records.clone(),
            record_table: self.record_table.clone(),
            workflow: self.workflow.clone(),
            dead_letters: self.dead_letters.clone(),
            clock: self.clock.clone(),
            policy: POLICY,
            first_look: FIRST_LOOK,
        }
    }
}
