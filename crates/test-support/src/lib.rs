//! Test support: in-memory doubles of the ports, the contract suites that a double and its real adapter both
//! pass, and samples to run them with.

pub mod certificates;
pub mod contract;
pub mod doubles;
pub mod redis_cluster;
pub mod redis_server;
pub mod samples;
pub mod world;
