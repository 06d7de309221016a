//! The stages: what each Lambda function does, over ports.

pub mod aggregate;
pub mod archive;
pub mod failure;
pub mod ingest;
mod keys;
pub mod metadata;
mod next_attempt;
pub mod query;
pub mod reconcile;
pub mod redrive;
pub mod upload;

#[cfg(test)]
mod event_files;
#[cfg(test)]
pub(crate) mod scenarios;
