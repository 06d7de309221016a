//! A file that is sent as a record.

use std::{fs::File, io::Read, path::PathBuf};

use anyhow::{Context as _, bail};
use base64_simd::STANDARD;
use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    digest::{Hasher, Sha256},
};
use tempfile::TempPath;

/// A file that is sent, with its size and digest.
pub(super) struct Input {
    /// The path that was given; `None` for the standard input.
    given: Option<PathBuf>,
    /// Where the bytes are. The standard input is stored in a temporary file first, because it may have to be sent twice.
    place: Place,
    pub(super) size_bytes: u64,
    pub(super) sha256: Sha256,
    /// When the file was changed last; now, for the standard input.
    pub(super) changed_at: Timestamp,
}

enum Place {
    File(PathBuf),
    Temporary(TempPath),
}

impl Input {
    /// Reads a file to its end; `-` is the standard input.
    pub(super) async fn read(file: &str) -> anyhow::Result<Self> {
        let file = file.to_owned();
        tokio::task::spawn_blocking(move || Self::read_now(&file)).await.context("read the file")?
    }

    fn read_now(file: &str) -> anyhow::Result<Self> {
        let (given, place, changed_at) = if file == "-" {
            let mut temporary = tempfile::NamedTempFile::new().context("store the standard input")?;
            std::io::copy(&mut std::io::stdin().lock(), &mut temporary)
                .context("store the standard input")?;
            (None, Place::Temporary(temporary.into_temp_path()), SystemClock.now())
        } else {
            let path = PathBuf::from(file);
            let modified = path.metadata().and_then(|metadata| metadata.modified())?;
            let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let changed_at = i64::try_from(since_epoch.as_millis()).ok().and_then(Timestamp::from_unix_ms);
            (Some(path.clone()), Place::File(path), changed_at.unwrap_or_else(|| SystemClock.now()))
        };
        let mut input = Self { given, place, size_bytes: 0, sha256: Sha256::of(b""), changed_at };
        (input.size_bytes, input.sha256) = input.measure()?;
        if input.size_bytes == 0 {
            bail!("it is empty, and a record must have a payload");
        }
        Ok(input)
    }

    fn measure(&self) -> anyhow::Result<(u64, Sha256)> {
        let (mut file, mut hasher, mut size_bytes) = (self.open()?, Hasher::default(), 0);
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok((size_bytes, hasher.finish()));
            }
            hasher.update(&buffer[..length]);
            size_bytes += length as u64;
        }
    }

    /// Opens the file for another reading.
    pub(super) fn open(&self) -> anyhow::Result<File> {
        let path = match &self.place {
            Place::File(path) => path.as_path(),
            Place::Temporary(path) => path,
        };
        File::open(path).with_context(|| format!("open {}", path.display()))
    }

    /// Returns the content in base64.
    pub(super) fn base64(&self) -> anyhow::Result<String> {
        let mut content = Vec::new();
        self.open()?.read_to_end(&mut content)?;
        if Sha256::of(&content) != self.sha256 {
            bail!("it has changed while it was sent; run the command again");
        }
        Ok(STANDARD.encode_to_string(content))
    }

    /// Returns the name of the file; for the standard input, the digest.
    pub(super) fn name(&self) -> String {
        let name = self.given.as_ref().and_then(|path| path.file_name());
        name.map_or_else(|| self.sha256.to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// Returns the media type that follows from the name of the file.
    pub(super) fn guessed_type(&self) -> String {
        let guess = self.given.as_ref().and_then(|path| mime_guess::from_path(path).first_raw());
        guess.unwrap_or("application/octet-stream").to_owned()
    }
}
