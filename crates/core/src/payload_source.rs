//! A payload that is read from one store to be written to another.

use std::{
    fmt, io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};

use crate::digest::{Hasher, Sha256};

/// The pieces of a payload, from its first byte to its last. The stream ends after an error.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// A payload that can be read piece by piece, and again from its beginning, so that nobody must hold all of it in
/// memory.
pub struct PayloadSource {
    size_bytes: u64,
    opened: Mutex<Option<Pieces>>,
    open: Box<dyn Fn() -> Pieces + Send + Sync>,
    broken: ReadFailure,
}

/// Reports whether reading a payload has failed, even after the payload was passed on.
#[derive(Clone, Debug, Default)]
pub struct ReadFailure(Arc<OnceLock<String>>);

impl ReadFailure {
    /// Returns the first error of the store from which the payload was read.
    pub fn error(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl PayloadSource {
    /// Creates a payload of `size_bytes`. The first reader gets `opened`; `open` opens the payload for every later
    /// reader.
    pub fn new(size_bytes: u64, opened: Pieces, open: impl Fn() -> Pieces + Send + Sync + 'static) -> Self {
        let broken = ReadFailure::default();
        Self { size_bytes, opened: Mutex::new(Some(opened)), open: Box::new(open), broken }
    }

    /// Returns the size of the payload.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the pieces of the payload, from its beginning at each call.
    pub fn pieces(&self) -> Pieces {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pieces = opened.unwrap_or_else(|| (self.open)());
        let broken = self.broken.clone();
        let pieces = pieces.inspect_err(move |error| {
            broken.0.get_or_init(|| error.to_string());
        });
        pieces.boxed()
    }

    /// Returns a handle that reports, also later, whether reading this payload has failed.
    pub fn read_failure(&self) -> ReadFailure {
        self.broken.clone()
    }

    /// Reads the payload and returns the digest of the bytes that the store has.
    pub async fn sha256(&self) -> io::Result<Sha256> {
        let (mut pieces, mut hasher) = (self.pieces(), Hasher::default());
        while let Some(piece) = pieces.next().await {
            hasher.update(&piece?);
        }
        Ok(hasher.finish())
    }
}

impl From<Bytes> for PayloadSource {
    fn from(payload: Bytes) -> Self {
        let once = |payload: &Bytes| stream::iter([Ok(payload.clone())]).boxed();
        Self::new(payload.len() as u64, once(&payload), move || once(&payload))
    }
}

impl fmt::Debug for PayloadSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadSource").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// Returns the pieces of a payload that is opened only when the first piece is read. If the payload no longer exists by
/// then, the first piece is an error, because the payload existed before.
pub fn open_on_first_read<E>(open: impl Future<Output = Result<Option<Pieces>, E>> + Send + 'static) -> Pieces
where
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let opened = open.map(|opened| match opened {
        Ok(Some(pieces)) => pieces,
        Ok(None) => stream::iter([Err(io::ErrorKind::NotFound.into())]).boxed(),
        Err(error) => stream::iter([Err(io::Error::other(error))]).boxed(),
    });
    opened.flatten_stream().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_payload_is_read_from_its_beginning_each_time() {
        let source = PayloadSource::from(Bytes::from_static(b"payload"));
        assert_eq!(source.size_bytes(), 7);
        for _ in 0..2 {
            assert_eq!(source.sha256().await.unwrap(), Sha256::of(b"payload"));
        }
    }

    #[tokio::test]
    async fn a_payload_that_is_gone_when_it_is_read_again_is_no_empty_one() {
        let mut gone = open_on_first_read(async { Ok::<_, io::Error>(None) });
        assert_eq!(gone.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut broken = open_on_first_read(async { Err(io::Error::other("away")) });
        assert!(broken.next().await.unwrap().is_err());
    }
}
