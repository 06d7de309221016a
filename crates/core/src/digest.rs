//! SHA-256 digests, which connect the receipt, the archive and the index of a record.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Hashes bytes that come in pieces, by the fastest code that `ring` has for the processor: with SHA extensions (x86,
/// ARM), with vector units alone, or with neither. `ring` detects the processor at the first use.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes so far.
    pub fn finish(self) -> Sha256 {
        let digest = self.0.finish();
        Sha256::from_slice(digest.as_ref()).expect("SHA-256 has 32 bytes")
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// How many bytes are hashed before the effect is polled again. Hashing them takes well under a millisecond on any
/// processor.
const PIECE: usize = 32 * 1024;

/// Hashes bytes while an effect is in progress: one piece each time that the effect is pending, and the remaining
/// pieces after it has ended. If the effect waits for a network, the total time is that of the effect, and hashing adds
/// none.
pub async fn hash_during<T>(bytes: &[u8], effect: impl Future<Output = T>) -> (T, Sha256) {
    let mut effect = pin!(effect);
    let (mut outcome, mut pieces, mut hasher) = (None, bytes.chunks(PIECE), Hasher::default());
    let outcome = poll_fn(|context| {
        if outcome.is_none()
            && let Poll::Ready(ready) = effect.as_mut().poll(context)
        {
            outcome = Some(ready);
        }
        let Some(piece) = pieces.next() else {
            return outcome.take().map_or(Poll::Pending, Poll::Ready);
        };
        hasher.update(piece);
        // The executor polls this future again after it has polled what else is ready.
        context.waker().wake_by_ref();
        Poll::Pending
    });
    let outcome = outcome.await;
    (outcome, hasher.finish())
}

/// A SHA-256 digest. Its text form is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the digest in the form that S3 and RFC 9530 use: padded standard base64.
    pub fn to_base64(self) -> String {
        base64_simd::STANDARD.encode_to_string(self.0)
    }

    /// Reads the base64 form.
    pub fn from_base64(text: &str) -> Option<Self> {
        Self::from_slice(&base64_simd::STANDARD.decode_to_vec(text).ok()?)
    }

    /// Reads the hexadecimal form.
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Returns the first of the 32 bytes, for values that must be spread evenly.
    pub const fn first_byte(self) -> u8 {
        self.0[0]
    }

    /// Returns the first four of the 32 bytes as a number, for values that must be spread evenly.
    pub const fn first_u32(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// Creates a digest from its 32 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text)
            .ok_or_else(|| de::Error::custom("a SHA-256 is 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn bytes_are_hashed_while_an_effect_waits_and_after_its_end() {
        for length in [0, 1, PIECE - 1, PIECE, 3 * PIECE + 1] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            for turns in [0, 1, 2, 9] {
                let effect = async {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                    turns
                };
                assert_eq!(
                    hash_during(&bytes, effect).await,
                    (turns, Sha256::of(&bytes)),
                    "{length} {turns}"
                );
            }
        }
    }

    #[test]
    fn the_effect_goes_on_while_the_bytes_are_hashed() {
        let (bytes, turns) = (vec![0; 100 * PIECE], std::cell::Cell::new(0));
        let effect = poll_fn(|context| {
            turns.set(turns.get() + 1);
            context.waker().wake_by_ref();
            if turns.get() < 50 { Poll::Pending } else { Poll::Ready(()) }
        });
        let mut hashed = pin!(hash_during(&bytes, effect));
        for turn in 1..=50 {
            assert!(hashed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(turns.get(), turn, "the effect does not wait for the hash");
        }
        let mut poll = || hashed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!((51..=100).all(|_| poll().is_pending()));
        assert!(poll().is_ready(), "the hash does not wait for the effect: half of it was done by then");
    }

    #[test]
    fn text_forms_read_back_and_match_the_published_vector() {
        // Source: FIPS 180-4 example, SHA-256("abc").
        let digest = Sha256::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), hex);
        assert_eq!(Sha256::from_hex(hex), Some(digest));
        assert_eq!(Sha256::from_base64(&digest.to_base64()), Some(digest));
        assert_eq!(Sha256::from_hex(&hex.to_uppercase()), None);
        assert_eq!(Sha256::from_base64("YWJj"), None);
    }
}
