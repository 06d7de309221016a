//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    // This crate is at `crates/xtask`.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// The one folder that holds everything the task runner makes beside the build.
pub(crate) fn state() -> PathBuf {
    root().join(".custody")
}

/// The files that the local stack is made from.
pub(crate) fn stack_files() -> PathBuf {
    root().join("crates/xtask/stack")
}
