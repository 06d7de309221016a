//! The soak test: runs the whole pipeline under load for a while, and then checks that every record has arrived.

use std::process::Command;

use custody_local_stack::{Stack, Workflows, progress};

use crate::build::{self, Build};

/// Sends records for `seconds`, follows each to its end, and compares what was archived with what was sent. Then runs
/// the operator's tool (`fsck`), which finds everything in the stores that does not agree.
pub(crate) fn run(seconds: u64, concurrency: usize) -> anyhow::Result<()> {
    let programs = build::programs(Build::Local)?;
    let stack = Stack::named("soak");
    stack.remove_leftovers()?;
    let soak = || {
        let running = stack.up(&programs.functions, &programs.cli, Workflows::default())?;
        let mut client = Command::new(&programs.test_client);
        client.args(["load", "--seconds", &seconds.to_string(), "--concurrency", &concurrency.to_string()]);
        progress::run_visibly(running.point_at_stack(&mut client))?;
        let mut fsck = Command::new(&programs.cli);
        progress::run_visibly(running.point_at_stack(fsck.arg("fsck")))
    };
    let result = soak();
    stack.down()?;
    result
}
