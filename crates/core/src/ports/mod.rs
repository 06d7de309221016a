//! Ports: one trait for each kind of effect that stages have on stores and services.
//!
//! The ports of stores and of the workflow have contract suites in the module `testing`, which run against the
//! double in memory and against the real adapter. Every call may be repeated: a stage that runs again makes the same
//! calls under the same keys. After an `Err` of a write, the effect may or may not have happened, unless the method
//! documents otherwise.

mod acceptance_markers;
mod access_entries;
mod dead_letters;
mod failed_store;
mod failure_handler;
mod idempotency_claims;
pub mod intercepted;
mod notifier;
mod open_records;
mod payload_archive;
mod payload_cache;
mod payload_links;
mod port_name;
mod record_queries;
mod record_table;
mod staging_area;
mod uploads;
mod workflow;

pub use self::{
    acceptance_markers::AcceptanceMarkers,
    access_entries::AccessEntries,
    dead_letters::DeadLetters,
    failed_store::FailedStore,
    failure_handler::FailureHandler,
    idempotency_claims::IdempotencyClaims,
    notifier::Notifier,
    open_records::{Acceptance, OpenRecords, Turn},
    payload_archive::{ArchivedObject, PayloadArchive},
    payload_cache::PayloadCache,
    payload_links::{PayloadLink, PayloadLinks},
    port_name::PortName,
    record_queries::RecordQueries,
    record_table::{
        CompletedItem, CompletionTimes, Discard, FailedItem, ItemState, NotedDiscard, RecordTable,
        StoredMetadata,
    },
    staging_area::{StagedPayload, StagingArea, UploadLink},
    uploads::Uploads,
    workflow::{Start, Workflow},
};
use crate::clock::Clock;

/// The stores and services of one deployment, as stages see them.
pub trait Deployment: 'static {
    /// The access table, in which ingest and query find the rights of their callers.
    type Access: AccessEntries + 'static;
    /// The payload cache.
    type Cache: PayloadCache + 'static;
    /// The archive.
    type Archive: PayloadArchive + 'static;
    /// The failed bucket.
    type FailedStore: FailedStore + 'static;
    /// The open-record table.
    type OpenRecords: OpenRecords + 'static;
    /// The idempotency table.
    type Claims: IdempotencyClaims + 'static;
    /// The acceptance markers, which ingest writes when the open-record table cannot take an acceptance.
    type Markers: AcceptanceMarkers + 'static;
    /// The record table.
    type RecordTable: RecordTable + 'static;
    /// The record table, for questions about records.
    type RecordQueries: RecordQueries + 'static;
    /// The maker of links to payloads.
    type PayloadLinks: PayloadLinks + 'static;
    /// The upload table.
    type Uploads: Uploads + 'static;
    /// The staging area of uploads.
    type Staging: StagingArea + 'static;
    /// The workflow.
    type Workflow: Workflow + 'static;
    /// The failure function, which reconcile invokes.
    type FailureHandler: FailureHandler + 'static;
    /// A queue of dead letters.
    type DeadLetters: DeadLetters + 'static;
    /// The notification topic.
    type Notifier: Notifier + 'static;
    /// The clock.
    type Clock: Clock + 'static;
}
