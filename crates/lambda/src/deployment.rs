//! The deployment as functions see it: every port on its AWS service, with a time limit.

use std::time::Duration;

use custody_aws::{
    DynamoOpenRecords, DynamoTable, FailureFunction, LetterQueue, S3AcceptanceMarkers, S3Archive,
    S3FailedStore, StateMachine, TopicNotifier,
};
use custody_core::{clock::SystemClock, ports::Deployment};

use crate::{bounded::Bounded, cache::FunctionCache};

/// The time limit of calls in functions that answer nobody who waits: the AWS clients give up earlier by themselves.
pub const PATIENT: Duration = Duration::from_secs(20);

/// The time limit of one look at all open records, and of the failure function as reconcile invokes it.
pub const VERY_PATIENT: Duration = Duration::from_mins(1);

/// The ports of a deployment on AWS, or on what stands for AWS.
#[derive(Debug)]
pub struct OnAws;

impl Deployment for OnAws {
    type Cache = Bounded<FunctionCache>;
    type Archive = Bounded<S3Archive>;
    type Failed = Bounded<S3FailedStore>;
    type Open = Bounded<DynamoOpenRecords>;
    type Claims = Bounded<DynamoOpenRecords>;
    type Markers = Bounded<S3AcceptanceMarkers>;
    type Table = Bounded<DynamoTable>;
    type Workflow = Bounded<StateMachine>;
    type Handler = Bounded<FailureFunction>;
    type Letters = Bounded<LetterQueue>;
    type Topic = Bounded<TopicNotifier>;
    type Time = SystemClock;
}

/// Gives a port the time limit of functions that answer nobody who waits.
pub const fn patient<P>(port: P) -> Bounded<P> {
    Bounded::new(port, PATIENT)
}
