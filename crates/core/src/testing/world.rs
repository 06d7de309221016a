//! A deployment in memory: one double of each store and service, and the stages that use them.

use std::{marker::PhantomData, time::Duration};

use crate::{
    breaker::Breaker,
    ports::Deployment,
    redrive_policy::{PATIENCE, RedrivePolicy},
    stages::{
        archive::Archive,
        failure::Failure,
        ingest::{Ingest, TABLE_BREAKER_PAUSE},
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

/// The time from a record's acceptance to reconcile's first look at it, in a deployment in memory.
pub const FIRST_LOOK: Duration = Duration::from_mins(2);

/// The doubles of all stores and services of a deployment.
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

/// The deployment whose ports are the doubles of a [`World`].
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
    type DeadLetterQueue = &'a MemoryDeadLetters;
    type Topic = &'a MemoryNotifier;
    type Time = &'a TestClock;
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

impl World {
    /// Creates the ingest stage over these doubles.
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
            table_breaker: Breaker::new(TABLE_BREAKER_PAUSE),
            first_look: FIRST_LOOK,
        }
    }

    /// Creates the archive stage over these doubles.
    pub fn archive_stage(&self) -> Archive<InMemory<'_>> {
        Archive {
            cache: &self.cache,
            failed_store: &self.failed_store,
            archive: &self.archive,
            clock: &self.clock,
        }
    }

    /// Creates the failure stage over these doubles, with this redrive policy.
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

    /// Creates the reconcile stage over these doubles, with these settings.
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

    /// Creates the redrive stage over these doubles.
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
