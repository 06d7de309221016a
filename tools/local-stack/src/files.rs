//! Secrets of a stack, and the files that hold them.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

/// Returns a random password from the kernel's random number generator.
pub(crate) fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    let mut source = fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut bytes).context("read /dev/urandom")?;
    let mut password = String::new();
    for byte in bytes {
        write!(password, "{byte:02x}")?;
    }
    Ok(password)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(file: &Path, content: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut open = options.open(file).with_context(|| format!("write {}", file.display()))?;
    open.write_all(content.as_bytes()).with_context(|| format!("write {}", file.display()))
}
