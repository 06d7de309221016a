//! Adapters of the ports on AWS services.

mod access_entries;
mod classify;
mod clients;
mod conditional_write;
mod dynamodb;
mod failure_function;
mod item_batches;
mod item_state;
mod markers;
mod object_listing;
mod open_records;
mod payload_links;
mod record_audit;
mod record_index;
mod s3;
mod sns;
mod sqs;
mod staging_area;
mod step_functions;
mod upload;
mod upload_table;
mod values;

pub use self::{
    access_entries::DynamoAccessEntries,
    classify::stage_error,
    clients::Aws,
    dynamodb::DynamoTable,
    failure_function::FailureFunction,
    markers::S3AcceptanceMarkers,
    object_listing::{ListedObject, ListedPage, ObjectListing},
    open_records::{DUE_INDEX, DynamoOpenRecords},
    payload_links::S3PayloadLinks,
    record_audit::{AuditedItem, AuditedPage, Cursor},
    record_index::RecordIndex,
    s3::{S3Archive, S3FailedStore},
    sns::TopicNotifier,
    sqs::SqsDeadLetters,
    staging_area::S3StagingArea,
    step_functions::{StateMachine, WorkflowType},
    upload_table::DynamoUploads,
};
