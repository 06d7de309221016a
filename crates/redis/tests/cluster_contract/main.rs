//! The payload cache on a real cluster: its contract, what it follows, and where it must refuse.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod breaker;
mod changes;
mod connections;
mod contract;
mod fixture;
mod proxy;
mod refusals;
