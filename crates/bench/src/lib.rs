//! The benchmark: release functions, as Lambda runs them, beside a floor.
//!
//! The bench process is the Lambda service (the Runtime API of every function it starts) and the rest of AWS (a stub that
//! answers at once). Redis is real: a primary and a replica, encrypted, as the template deploys them. The *floor* is
//! another program under the same harness, which does what cannot be left out: take the event's bytes from the
//! socket, write as many bytes as the payload has to Redis, wait for the replica, and answer. It does not parse, decode,
//! hash, log or call AWS.
//!
//! *Invariant:* a function and its floor take turns, record by record, so that whatever else the machine does befalls
//! both. Only ratios within one run are compared with a target.

pub mod allocations;
pub mod aws_stub;
pub mod deployment;
pub mod figures;
pub mod function;
pub mod goals;
pub mod http;
pub mod init;
pub mod latency;
pub mod plot;
pub mod process;
pub mod redis_link;
pub mod runtime_api;
pub mod table;
pub mod throughput;
pub mod tls;
pub mod workload;
