//! A payload's bytes as a request holds them: there already, or still in base64.
//!
//! *Invariant:* base64 is checked when it becomes [`Content`], so that reading content cannot fail.

use std::{borrow::Cow, sync::OnceLock};

use base64_simd::{Out, STANDARD};
use bytes::Bytes;

use crate::digest::{Hasher, Sha256};

/// Bytes to keep, read piece by piece: a payload of megabytes is decoded where it is needed and held nowhere. Whoever reads
/// it first, to its end, has also worked out its digest.
#[derive(Clone, Debug)]
pub struct Content<'a> {
    held: Held<'a>,
    sha256: OnceLock<Sha256>,
}

#[derive(Clone, Debug)]
enum Held<'a> {
    Plain(Cow<'a, [u8]>),
    /// In the standard alphabet, padded, without line breaks, and canonical.
    Base64(&'a [u8]),
}

impl<'a> Content<'a> {
    const fn new(held: Held<'a>) -> Self {
        Self { held, sha256: OnceLock::new() }
    }

    /// The bytes that a base64 text in a larger one stands for; `None` where it is none.
    pub fn from_base64_bytes(text: &'a [u8]) -> Option<Self> {
        STANDARD.check(text).is_ok().then(|| Self::new(Held::Base64(text)))
    }

    /// The bytes that a base64 text stands for; the text itself where it is none.
    pub fn from_base64(text: Cow<'a, str>) -> Result<Self, Cow<'a, str>> {
        match text {
            Cow::Borrowed(text) => Self::from_base64_bytes(text.as_bytes()).ok_or(Cow::Borrowed(text)),
            Cow::Owned(text) => match STANDARD.decode_to_vec(&text) {
                Ok(bytes) => Ok(Self::new(Held::Plain(Cow::Owned(bytes)))),
                Err(_) => Err(Cow::Owned(text)),
            },
        }
    }

    /// Their number.
    pub fn len(&self) -> usize {
        match &self.held {
            Held::Plain(bytes) => bytes.len(),
            Held::Base64(text) => {
                let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
                text.len() / 4 * 3 - padding
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, from the first to the last, in pieces of at most 48 KiB.
    pub fn pieces(&self) -> Pieces<'_> {
        let (rest, decoded) = match &self.held {
            Held::Plain(bytes) => (bytes.as_ref(), None),
            Held::Base64(text) => (*text, Some(vec![0; PIECE].into_boxed_slice())),
        };
        let digest = self.sha256.get().is_none().then(|| (Hasher::default(), &self.sha256));
        Pieces { rest, decoded, digest }
    }

    /// Their digest. They are read for it where nobody has read them yet.
    pub fn sha256(&self) -> Sha256 {
        let mut pieces = self.pieces();
        while self.sha256.get().is_none() && pieces.next_piece().is_some() {}
        *self.sha256.get_or_init(|| Sha256::of(b""))
    }

    /// All of them together.
    pub fn to_bytes(&self) -> Bytes {
        match &self.held {
            Held::Plain(bytes) => Bytes::copy_from_slice(bytes),
            Held::Base64(text) => STANDARD.decode_to_vec(text).expect("it was checked to be base64").into(),
        }
    }
}

impl<'a> From<Cow<'a, [u8]>> for Content<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        Self::new(Held::Plain(bytes))
    }
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Content<'a> {
    fn from(bytes: &'a T) -> Self {
        Self::new(Held::Plain(Cow::Borrowed(bytes.as_ref())))
    }
}

/// Small enough for a processor's second cache, and a multiple of TLS's largest record.
const PIECE: usize = 48 * 1024;

/// The pieces of a [`Content`]. See [`Content::pieces`].
#[derive(Debug)]
pub struct Pieces<'a> {
    rest: &'a [u8],
    /// Where the current piece is decoded; `None` where the bytes are there already.
    decoded: Option<Box<[u8]>>,
    /// The digest of what was read so far, and where the whole's goes; `None` where that is known.
    digest: Option<(Hasher, &'a OnceLock<Sha256>)>,
}

impl Pieces<'_> {
    /// The next piece, which is never empty.
    pub fn next_piece(&mut self) -> Option<&[u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let held = if self.decoded.is_some() { PIECE / 3 * 4 } else { PIECE };
        let (piece, rest) = self.rest.split_at(self.rest.len().min(held));
        self.rest = rest;
        let piece = match &mut self.decoded {
            None => piece,
            Some(space) => {
                STANDARD.decode(piece, Out::from_slice(space)).expect("it was checked to be base64")
            }
        };
        if let Some((hasher, _)) = &mut self.digest {
            hasher.update(piece);
        }
        if self.rest.is_empty()
            && let Some((hasher, whole)) = self.digest.take()
        {
            whole.get_or_init(|| hasher.finish());
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &Content<'_>) -> Vec<u8> {
        let (mut bytes, mut pieces) = (Vec::new(), content.pieces());
        while let Some(piece) = pieces.next_piece() {
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            bytes.extend_from_slice(piece);
        }
        bytes
    }

    #[test]
    fn every_form_of_content_reads_as_the_same_bytes() {
        for size in [0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 2] {
            let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let text = STANDARD.encode_to_string(&bytes);
            for content in [
                Content::from(&bytes),
                Content::from_base64(Cow::Borrowed(&text)).unwrap(),
                Content::from_base64(Cow::Owned(text.clone())).unwrap(),
            ] {
                assert_eq!(content.len(), size);
                assert_eq!(content.is_empty(), size == 0);
                assert_eq!(content.clone().sha256(), Sha256::of(&bytes), "unread");
                let mut half = content.pieces();
                half.next_piece();
                assert_eq!(content.clone().sha256(), Sha256::of(&bytes), "read in part");
                assert_eq!(read(&content), bytes);
                assert_eq!(read(&content), bytes, "again");
                assert_eq!(content.sha256(), Sha256::of(&bytes), "read");
                assert_eq!(content.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_is_not_canonical_base64_is_none_of_it() {
        for text in ["aGVsbG9=", "aGVsbG8", "aGVs\nbG8=", "aGVs-G8=", "====", "ä"] {
            assert!(Content::from_base64(Cow::Borrowed(text)).is_err(), "{text}");
            assert!(Content::from_base64(Cow::Owned(text.to_owned())).is_err(), "{text}");
        }
    }
}
