//! The names of the ports.

use strum::Display;

use crate::error::ErrorName;

/// The name of a port. Its text form (`open-records`) appears in errors and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Display)]
#[strum(serialize_all = "kebab-case")]
pub enum PortName {
    /// [`PayloadCache`](super::PayloadCache)
    PayloadCache,
    /// [`PayloadArchive`](super::PayloadArchive)
    PayloadArchive,
    /// [`FailedStore`](super::FailedStore)
    FailedBucket,
    /// [`OpenRecords`](super::OpenRecords)
    OpenRecords,
    /// [`IdempotencyClaims`](super::IdempotencyClaims)
    IdempotencyClaims,
    /// [`AcceptanceMarkers`](super::AcceptanceMarkers)
    AcceptanceMarkers,
    /// [`RecordTable`](super::RecordTable)
    RecordTable,
    /// [`AccessEntries`](super::AccessEntries)
    AccessEntries,
    /// [`Uploads`](super::Uploads)
    Uploads,
    /// [`StagingArea`](super::StagingArea)
    StagingArea,
    /// [`Workflow`](super::Workflow)
    Workflow,
    /// [`FailureHandler`](super::FailureHandler)
    FailureHandler,
    /// [`DeadLetters`](super::DeadLetters)
    DeadLetters,
    /// [`Notifier`](super::Notifier)
    Notifier,
}

impl PortName {
    /// Returns the error name for a port that is unavailable.
    pub const fn unavailable(self) -> ErrorName {
        match self {
            Self::PayloadCache => ErrorName::CacheUnavailable,
            Self::PayloadArchive | Self::StagingArea => ErrorName::ArchiveUnavailable,
            Self::FailedBucket => ErrorName::FailedStoreUnavailable,
            Self::OpenRecords
            | Self::IdempotencyClaims
            | Self::RecordTable
            | Self::AccessEntries
            | Self::Uploads => ErrorName::TableUnavailable,
            Self::AcceptanceMarkers => ErrorName::MarkersUnavailable,
            Self::Workflow => ErrorName::WorkflowUnavailable,
            Self::FailureHandler => ErrorName::FailureFunctionUnavailable,
            Self::DeadLetters => ErrorName::QueueUnavailable,
            Self::Notifier => ErrorName::TopicUnavailable,
        }
    }
}
