//! A deployment in memory: every store once, and the stages over them.

use std::{marker::PhantomData, time::Duration};

use crate::{
    breaker::Breaker,
    ports::Deployment,
    redrive_policy::{PATIENCE, RedrivePolicy},
    stages::{
        archive::Archive,
        failure::Failure,
        ingest::{Ingest, TABLE_PAUSE},
        reconcile::{Reconcile, Settings},
        redrive::Redrive,
    },
};

use super::{
    doubles::{
        MemoryArchive, MemoryDeadLetters, MemoryFailedStore, MemoryFailureHandler, MemoryMarkers,
        MemoryNotifier, MemoryOpenRecords, MemoryPayloadCache, MemoryTable, MemoryWorkflow,
    },
    samples::TestClock,
};

/// The CloudEvents source of a deployment in memory.
pub const EVENT_SOURCE: &str = "urn:custody:test";

/// How long after its acceptance a record is looked at first in a deployment in memory.
pub const FIRST_LOOK: Duration = Duration::from_mins(2);

/// Every store and service of a deployment.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field is named after the double in it")]
pub struct World {
    pub cache: MemoryPayloadCache,
    pub archive: MemoryArchive,
    pub failed_store: MemoryFailedStore,
    pub open: MemoryOpenRecords,
    pub markers: MemoryMarkers,
    pub table: MemoryTable,
    pub workflow: MemoryWorkflow,
    pub failure_handler: MemoryFailureHandler,
    pub dead_letters: MemoryDeadLetters,
    pub rejected_requests: MemoryDeadLetters,
    pub topic: MemoryNotifier,
    pub clock: TestClock,
}

/// The deployment whose stores are those of a [`World`].
#[derive(Debug)]
pub struct InMemory<'a>(PhantomData<&'a World>);

impl<'a> Deployment for InMemory<'a> {
    type Cache = &'a MemoryPayloadCache;
    type Archive = &'a MemoryArchive;
    type Failed = &'a MemoryFailedStore;
    type Open = &'a MemoryOpenRecords;
    type Claims = &'a MemoryOpenRecords;
    type Markers = &'a MemoryMarkers;
    type Table = &'a MemoryTable;
    type Workflow = &'a MemoryWorkflow;
    type Handler = &'a MemoryFailureHandler;
    type Letters = &'a MemoryDeadLetters;
    type Topic = &'a MemoryNotifier;
    type Time = &'a TestClock;
}

/// The redrive policy of production.
pub const POLICY: RedrivePolicy = RedrivePolicy { automatic: true, max_attempts: 3, patience: PATIENCE };

/// The settings of reconcile in production.
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

impl World {
    /// The ingest stage.
    pub fn ingest(&self) -> Ingest<InMemory<'_>> {
        Ingest {
            cache: &self.cache,
            archive: &self.archive,
            open: &self.open,
            claims: &self.open,
            markers: &self.markers,
            workflow: &self.workflow,
            failed_store: &self.failed_store,
            dead_letters: &self.dead_letters,
            rejected_requests: &self.rejected_requests,
            clock: &self.clock,
            table_breaker: Breaker::new(TABLE_PAUSE),
            first_look: FIRST_LOOK,
        }
    }

    /// The archive stage.
    pub fn archive_stage(&self) -> Archive<InMemory<'_>> {
        Archive {
            cache: &self.cache,
            failed_store: &self.failed_store,
            archive: &self.archive,
            clock: &self.clock,
        }
    }

    /// The failure stage, under this policy.
    pub fn failure(&self, policy: RedrivePolicy) -> Failure<InMemory<'_>> {
        Failure {
            cache: &self.cache,
            failed_store: &self.failed_store,
            archive: &self.archive,
            open: &self.open,
            table: &self.table,
            dead_letters: &self.dead_letters,
            topic: &self.topic,
            clock: &self.clock,
            event_source: EVENT_SOURCE.to_owned(),
            policy,
        }
    }

    /// The reconcile stage, with these settings.
    pub fn reconcile(&self, settings: Settings) -> Reconcile<InMemory<'_>> {
        Reconcile {
            cache: &self.cache,
            failed_store: &self.failed_store,
            archive: &self.archive,
            open: &self.open,
            claims: &self.open,
            markers: &self.markers,
            table: &self.table,
            workflow: &self.workflow,
            failure_handler: &self.failure_handler,
            topic: &self.topic,
            clock: &self.clock,
            event_source: EVENT_SOURCE.to_owned(),
            settings,
        }
    }

    /// The redrive stage.
    pub fn redrive(&self) -> Redrive<InMemory<'_>> {
        Redrive {
            open: &self.open,
            table: &self.table,
            workflow: &self.workflow,
            dead_letters: &self.dead_letters,
            clock: &self.clock,
            policy: POLICY,
            first_look: FIRST_LOOK,
        }
    }
}
