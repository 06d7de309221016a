//! Tests of the payload cache on a real cluster: its contract, changes of the cluster, and the calls that must fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod breaker;
mod changes;
mod connections;
mod contract;
mod fixture;
mod proxy;
mod refusals;
