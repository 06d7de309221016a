//! The original event of a request, for storing a request that is rejected.

use std::ops::Range;

use base64_simd::STANDARD;
use bytes::{Bytes, BytesMut};

use super::in_place;

/// An event as Lambda delivered it, or the parts from which it can be restored.
#[derive(Clone, Debug)]
pub enum OriginalEvent {
    /// The event itself; no part of it was decoded.
    Whole(Bytes),
    /// An event of which a run of base64 was decoded.
    Decoded {
        /// The text before the run.
        before: Bytes,
        /// The decoded bytes of the run.
        payload: Bytes,
        /// The text after the run.
        after: Bytes,
    },
}

impl OriginalEvent {
    /// Decodes a run of base64 in the event's own memory, and returns the event and the decoded bytes. `Err` returns
    /// the event unchanged, if the run is not base64.
    pub(super) fn decode(event: Bytes, run: Range<usize>) -> Result<(Self, Bytes), Bytes> {
        // The event has no other owner, unless it came in the same piece as other messages. In that case it is small,
        // and is copied.
        let mut buffer = event.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        let Some(length) = in_place::decode(&mut buffer[run.clone()]) else { return Err(buffer.freeze()) };
        let event = buffer.freeze();
        let payload = event.slice(run.start..run.start + length);
        let (before, after) = (event.slice(..run.start), event.slice(run.end..));
        Ok((Self::Decoded { before, payload: payload.clone(), after }, payload))
    }

    /// Returns the event as Lambda delivered it.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Whole(event) => event.clone(),
            Self::Decoded { before, payload, after } => {
                let run = STANDARD.encode_type::<Vec<u8>>(payload);
                [before.as_ref(), &run, after].concat().into()
            }
        }
    }
}
