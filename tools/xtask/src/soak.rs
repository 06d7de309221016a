//! A soak: the whole pipeline under load for a while, and then a look at whether everything arrived.

use std::process::Command;

use custody_local_stack::{Stack, Workflows, progress};

use crate::build::{self, Build};

/// Sends records for so long, follows each to its end, compares what was archived with what was sent, and has the
/// operator's tool look for what does not agree.
pub(crate) fn run(seconds: u64, concurrency: usize) -> anyhow::Result<()> {
    let programs = build::programs(Build::Local)?;
    let stack = Stack::named("soak");
    stack.forget()?;
    let soak = || {
        let running = stack.up(&programs.functions, Workflows::default())?;
        let mut client = Command::new(&programs.test_client);
        client.args(["load", "--seconds", &seconds.to_string(), "--concurrency", &concurrency.to_string()]);
        progress::run_visibly(running.point_at_it(&mut client))?;
        let mut fsck = Command::new(&programs.cli);
        progress::run_visibly(running.point_at_it(fsck.arg("fsck")))
    };
    let result = soak();
    stack.down()?;
    result
}
