//! Test support: in-memory doubles of the ports, the contract suites that a double and its real adapter both
//! pass, and samples to run them with.

pub mod contract;
pub mod doubles;
pub mod samples;
pub mod world;

#[cfg(test)]
mod tests;
