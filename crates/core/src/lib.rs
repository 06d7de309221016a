//! The core of Custody: domain types, wire formats, ports and the logic of every stage.
//!
//! Nothing in this crate does I/O. A stage is a function over *ports* (the [`ports`] module) and typed
//! input. `custody-redis` and `custody-aws` implement the ports on a cluster and on AWS services; the module `testing`,
//! which is a feature, implements them in memory.

pub mod access;
pub mod attempt;
pub mod backoff;
pub mod breaker;
pub mod clock;
pub mod dead_letter;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod failed_record;
pub mod idempotency;
pub mod json;
pub mod lookup;
pub mod manifest;
pub mod message;
pub mod metadata;
pub mod nearest;
pub mod notification;
pub mod open_record;
mod payload_search;
pub mod payload_source;
pub mod ports;
pub mod problem;
pub mod proxy;
pub mod receipt;
pub mod record_id;
pub mod record_query;
pub mod redrive_policy;
pub mod rejected_request;
pub mod remedy;
pub mod schema;
pub mod secret;
pub mod sqs_event;
pub mod stages;
pub mod stored_names;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod upload;

pub use schema::SCHEMA_VERSION;

/// The memory settings of ingest's C library (`GLIBC_TUNABLES`). With them, blocks as large as an event stay with the
/// process. Otherwise they go back to the kernel after each event, and the kernel clears their pages before the next
/// event. Source: GNU C Library manual, "Memory allocation tunables".
pub const INGEST_ALLOCATOR: &str =
    "glibc.malloc.mmap_threshold=67108864:glibc.malloc.trim_threshold=134217728";

/// The largest event that Lambda hands to a function, in bytes. An API Gateway event carries its request
/// body inside this limit. Source: AWS Lambda quotas, "Invocation payload (request and response)".
pub const MAX_EVENT_BYTES: usize = 6_291_456;
