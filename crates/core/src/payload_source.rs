//! A payload in one store, on its way to another.

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

/// The pieces of a payload, from its first byte to its last. An error ends them.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// A payload that can be read piece by piece, and once more from its beginning where that is needed: nobody has to hold all
/// of it.
pub struct PayloadSource {
    size_bytes: u64,
    opened: Mutex<Option<Pieces>>,
    open: Box<dyn Fn() -> Pieces + Send + Sync>,
    broken: BrokenOff,
}

/// Tells whether reading a payload has failed, also after the payload was handed on.
#[derive(Clone, Debug, Default)]
pub struct BrokenOff(Arc<OnceLock<String>>);

impl BrokenOff {
    /// The first error of the store that the payload was read from.
    pub fn error(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl PayloadSource {
    /// The payload of so many bytes that `opened` reads now, and `open` reads again.
    pub fn new(size_bytes: u64, opened: Pieces, open: impl Fn() -> Pieces + Send + Sync + 'static) -> Self {
        let broken = BrokenOff::default();
        Self { size_bytes, opened: Mutex::new(Some(opened)), open: Box::new(open), broken }
    }

    /// The size of the payload.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The pieces. They are read from the beginning each time.
    pub fn pieces(&self) -> Pieces {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pieces = opened.unwrap_or_else(|| (self.open)());
        let broken = self.broken.clone();
        let pieces = pieces.inspect_err(move |error| {
            broken.0.get_or_init(|| error.to_string());
        });
        pieces.boxed()
    }

    /// What tells later whether reading it has failed.
    pub fn broken_off(&self) -> BrokenOff {
        self.broken.clone()
    }

    /// The digest of what the store has.
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

/// The pieces of a payload that a store is asked for when the first of them is wanted. A payload that is gone by then is an
/// error: there was one.
pub fn opened_later<E>(open: impl Future<Output = Result<Option<Pieces>, E>> + Send + 'static) -> Pieces
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
        let mut gone = opened_later(async { Ok::<_, io::Error>(None) });
        assert_eq!(gone.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut broken = opened_later(async { Err(io::Error::other("away")) });
        assert!(broken.next().await.unwrap().is_err());
    }
}
