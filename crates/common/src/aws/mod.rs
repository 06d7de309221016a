//! Adapters of the ports on AWS services.

pub(crate) mod classify;
mod clients;
mod dynamodb;
mod failure_function;
mod s3;
mod sns;
mod sqs;
mod step_functions;

pub use self::{
    clients::Aws,
    dynamodb::DynamoTable,
    failure_function::FailureFunction,
    s3::{S3Archive, S3FailedStore, S3PendingMarkers},
    sns::TopicNotifier,
    sqs::LetterQueue,
    step_functions::StateMachine,
};
