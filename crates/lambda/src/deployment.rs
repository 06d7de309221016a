//! The deployment that functions use: every port on its AWS service or the cache cluster, with a time limit for each
//! call.

use std::time::Duration;

use custody_aws::{
    DynamoAccessEntries, DynamoOpenRecords, DynamoTable, DynamoUploads, FailureFunction, RecordIndex,
    S3AcceptanceMarkers, S3Archive, S3FailedStore, S3PayloadLinks, S3StagingArea, SqsDeadLetters,
    StateMachine, TopicNotifier,
};
use custody_core::{clock::SystemClock, ports::Deployment};

use crate::{
    cache::FunctionCache,
    time_limit::{Limited, limited},
};

/// The time limit of a call in a function for whose answer no producer waits. The AWS clients reach their own, shorter
/// time limits first.
pub const BACKGROUND_CALL_LIMIT: Duration = Duration::from_secs(20);

/// The time limit of reconcile's calls to the open-record table and to the failure function.
pub const LONG_CALL_LIMIT: Duration = Duration::from_mins(1);

/// The ports of a deployment on AWS, or on the local stack.
#[derive(Debug)]
pub struct OnAws;

impl Deployment for OnAws {
    type Access = Limited<DynamoAccessEntries>;
    type Cache = Limited<FunctionCache>;
    type Archive = Limited<S3Archive>;
    type FailedStore = Limited<S3FailedStore>;
    type OpenRecords = Limited<DynamoOpenRecords>;
    type Claims = Limited<DynamoOpenRecords>;
    type Markers = Limited<S3AcceptanceMarkers>;
    type RecordTable = Limited<DynamoTable>;
    type RecordQueries = Limited<RecordIndex>;
    type PayloadLinks = S3PayloadLinks;
    type Uploads = Limited<DynamoUploads>;
    type Staging = Limited<S3StagingArea>;
    type Workflow = Limited<StateMachine>;
    type FailureHandler = Limited<FailureFunction>;
    type DeadLetters = Limited<SqsDeadLetters>;
    type Notifier = Limited<TopicNotifier>;
    type Clock = SystemClock;
}

/// Wraps a port with the time limit [`BACKGROUND_CALL_LIMIT`], for functions for whose answer no producer waits.
pub const fn with_background_call_limit<P>(port: P) -> Limited<P> {
    limited(port, BACKGROUND_CALL_LIMIT)
}
