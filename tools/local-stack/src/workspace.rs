//! Folders of the checkout.

use std::path::{Path, PathBuf};

/// Returns the root folder of the workspace.
pub fn root() -> &'static Path {
    // This crate is at `tools/local-stack`.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// The folder of everything that the task runner makes beside the build: `.custody`.
pub fn state() -> PathBuf {
    root().join(".custody")
}

/// The folder of the local stack's Python files.
pub fn python_files() -> PathBuf {
    root().join("tools/local-stack/python")
}
