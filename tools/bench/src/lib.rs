//! The benchmark: release functions, as Lambda runs them, beside a baseline.
//!
//! The bench process is the Lambda service (the Runtime API of every function it starts) and the rest of AWS (a stub that
//! answers at once, unless it is told to answer late). The cache is real: a cluster of one shard with one replica, encrypted
//! and with users, as the template deploys it. The *baseline* is another program under the same harness, which does what
//! cannot be left out: take the event's bytes from the socket, write as many bytes as the payload has to the cache, wait
//! for the replica, put one item of the open record's size, and answer. It does not parse, decode, hash, sign or log.
//!
//! *Invariant:* programs that are compared take turns, record by record, so that whatever else the machine does befalls all
//! of them. Only figures of one run are compared.

pub mod allocations;
pub mod aws_stub;
pub mod cache_bytes;
pub mod case;
pub mod deployment;
pub mod figures;
pub mod function;
pub mod goals;
pub mod http;
pub mod init;
pub mod latencies;
pub mod latency;
pub mod plot;
pub mod primitives;
pub mod process;
pub mod redis_link;
pub mod runtime_api;
pub mod several;
pub mod start_delay;
pub mod table;
pub mod throughput;
pub mod tls;
pub mod turns;
pub mod workload;
