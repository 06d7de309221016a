//! The local stack: MiniStack, the cache (a cluster of Redis servers), and the template deployed to them.
//!
//! *Invariants:* every server listens on loopback only. All files of a stack are in `.custody/stacks/<name>`. Every process of a
//! stack, and every process that one starts, has the stack's folder in its environment or as its working directory, so
//! that `down` finds them all.
#![expect(clippy::print_stdout, reason = "the task runner speaks to a person")]

mod cache;
mod certificates;
mod deploy;
mod fault;
mod files;
mod ministack;
mod process;
pub mod progress;
mod running;
mod stack;
pub mod tools;
mod workflows;
pub mod workspace;

pub use self::{
    deploy::{REFERENCE_BUCKET, STACK_NAME, add_producer},
    fault::Fault,
    running::Running,
    stack::{SECOND_STACK_NAME, Stack, parse_name},
    workflows::Workflows,
};
