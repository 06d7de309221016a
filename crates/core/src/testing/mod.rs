//! Test support: in-memory doubles of the ports, the contract suites that each double and its real adapter must pass,
//! and sample data for tests.

pub mod contract;
pub mod doubles;
pub mod samples;
pub mod world;

#[cfg(test)]
pub(crate) mod log;
#[cfg(test)]
mod tests;
