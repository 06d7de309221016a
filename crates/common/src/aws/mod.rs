//! Adapters of the ports on AWS services.

pub(crate) mod classify;
mod clients;
mod dynamodb;
mod failure_function;
mod markers;
mod open_records;
mod s3;
mod sns;
mod sqs;
mod step_functions;

pub use self::{
    clients::Aws,
    dynamodb::DynamoTable,
    failure_function::FailureFunction,
    markers::S3AcceptanceMarkers,
    open_records::{DUE_INDEX, DynamoOpenRecords},
    s3::{S3Archive, S3FailedStore},
    sns::TopicNotifier,
    sqs::LetterQueue,
    step_functions::{StateMachine, WorkflowType},
};
