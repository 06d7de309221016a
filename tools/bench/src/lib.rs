//! Measures the release functions, run as Lambda runs them, and compares them with a baseline.
//!
//! The benchmark's process takes the place of the Lambda service (it serves the Runtime API of every function that it
//! starts) and of the rest of AWS (a stub that answers at once, unless it is configured to answer late). The cache is
//! real: a cluster of one shard with one replica, encrypted and with users, as the template deploys it. The *baseline*
//! is another program in the same harness that does only what cannot be left out: it reads the event's bytes from the
//! socket, writes as many bytes as the payload has to the cache, waits for the replica, puts one item of the open
//! record's size, and answers. It does not parse, decode, hash, sign or log.
//!
//! *Invariant:* Programs that are compared take turns, record by record, so that any other load on the machine affects
//! all of them. Only figures of one run are compared.

pub mod allocations;
pub mod aws_stub;
pub mod builds;
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
