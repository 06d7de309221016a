//! Two builds of the functions, to be compared with each other.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

/// Copies of the programs of two builds. The copies end with this value.
///
/// A program that the linker has written in place runs some percent slower than a copy of it, because of how the kernel
/// caches its pages. So both builds are measured as copies, which are made in the same way.
#[derive(Debug)]
pub struct Builds {
    folder: TempDir,
}

impl Builds {
    /// Copies the programs in two folders: those of the current build, and those of the build before. Programs whose file
    /// is missing in the build before cannot be compared, and starting them will fail.
    pub fn copy(current: &Path, before: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::new().context("make a folder for copies of the programs")?;
        let builds = Self { folder };
        for (from, to) in [(current, builds.current()), (before, builds.before())] {
            fs::create_dir(&to).with_context(|| format!("make {}", to.display()))?;
            for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
                let entry = entry?;
                // Programs have no extension. Other files in the folder are of cargo.
                if entry.file_type()?.is_file() && entry.path().extension().is_none() {
                    let copy = to.join(entry.file_name());
                    fs::copy(entry.path(), &copy)
                        .with_context(|| format!("copy {}", entry.path().display()))?;
                }
            }
        }
        Ok(builds)
    }

    /// The folder with the programs of the current build.
    pub fn current(&self) -> PathBuf {
        self.folder.path().join("current")
    }

    /// The folder with the programs of the build before.
    pub fn before(&self) -> PathBuf {
        self.folder.path().join("before")
    }
}
