//! Commands of this program, written as lines of a shell.

use std::process::Command;

use custody_local_stack::workspace;
use xshell::{Cmd, Shell};

/// Returns a shell in the workspace's folder.
pub(crate) fn in_workspace() -> anyhow::Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(workspace::root());
    Ok(shell)
}

/// Runs a cargo command and shows its output.
pub(crate) fn run_cargo(command: Cmd<'_>) -> anyhow::Result<()> {
    Ok(without_own_variables(command).quiet().run()?)
}

/// Returns a cargo command to be run with further settings.
pub(crate) fn cargo(command: Cmd<'_>) -> Command {
    let mut command = Command::from(without_own_variables(command));
    command.current_dir(workspace::root());
    command
}

/// Removes the variables by which `cargo run` describes this program. Build scripts of dependencies (ring's) watch them: with
/// them, every dependency would be built anew between a `cargo build` and a `cargo xtask`.
fn without_own_variables(mut command: Cmd<'_>) -> Cmd<'_> {
    for (name, _) in std::env::vars_os() {
        let describes_this_program = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if describes_this_program {
            command = command.env_remove(name);
        }
    }
    command
}
