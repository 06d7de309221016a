//! The deployment that functions use: every port on its AWS service or the cache cluster, with a time limit for each
//! call.

use std::time::Duration;

use custody_aws::{
    DynamoOpenRecords, DynamoTable, FailureFunction, S3AcceptanceMarkers, S3Archive, S3FailedStore,
    SqsDeadLetters, StateMachine, TopicNotifier,
};
use custody_core::{clock::SystemClock, ports::Deployment};

use crate::{bounded::Bounded, cache::FunctionCache};

/// The time limit of a call in a function for whose answer no producer waits. The AWS clients reach their own, shorter
/// time limits first.
pub const BACKGROUND_CALL_LIMIT: Duration = Duration::from_secs(20);

/// The time limit of reconcile's calls to the open-record table and to the failure function.
pub const LONG_CALL_LIMIT: Duration = Duration::from_mins(1);

/// The ports of a deployment on AWS, or on the local stack.
#[derive(Debug)]
pub struct OnAws;

impl Deployment for OnAws {
    type Cache = Bounded<FunctionCache>;
    type Archive = Bounded<S3Archive>;
    type FailedStore = Bounded<S3FailedStore>;
    type OpenRecords = Bounded<DynamoOpenRecords>;
    type Claims = Bounded<DynamoOpenRecords>;
    type Markers = Bounded<S3AcceptanceMarkers>;
    type RecordTable = Bounded<DynamoTable>;
    type Workflow = Bounded<StateMachine>;
    type FailureHandler = Bounded<FailureFunction>;
    type DeadLetters = Bounded<SqsDeadLetters>;
    type Notifier = Bounded<TopicNotifier>;
    type Clock = SystemClock;
}

/// Wraps a port with the time limit [`BACKGROUND_CALL_LIMIT`], for functions for whose answer no producer waits.
pub const fn with_background_call_limit<P>(port: P) -> Bounded<P> {
    Bounded::new(port, BACKGROUND_CALL_LIMIT)
}
