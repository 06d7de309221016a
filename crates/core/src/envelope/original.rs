//! The event of a request, for whoever keeps the request when it is refused.

use std::ops::Range;

use base64_simd::STANDARD;
use bytes::{Bytes, BytesMut};

use super::in_place;

/// An event as Lambda delivered it, or the parts that it can be put together from.
#[derive(Clone, Debug)]
pub enum OriginalEvent {
    /// All of it.
    Whole(Bytes),
    /// An event of which a run of base64 was decoded.
    Decoded {
        /// The text before the run.
        before: Bytes,
        /// The bytes that the run stands for.
        payload: Bytes,
        /// The text after the run.
        after: Bytes,
    },
}

impl OriginalEvent {
    /// Decodes a run of base64 in the event's own memory. `Err` has the event as it was, where the run is no base64.
    pub(super) fn decode(event: Bytes, run: Range<usize>) -> Result<Self, Bytes> {
        // Nobody else holds it, unless it came in the same piece as other messages: then it is small.
        let mut buffer = event.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        let Some(length) = in_place::decode(&mut buffer[run.clone()]) else { return Err(buffer.freeze()) };
        let event = buffer.freeze();
        Ok(Self::Decoded {
            before: event.slice(..run.start),
            payload: event.slice(run.start..run.start + length),
            after: event.slice(run.end..),
        })
    }

    /// The bytes of the run that was decoded; none where none was.
    pub(super) fn payload(&self) -> Bytes {
        match self {
            Self::Whole(_) => Bytes::new(),
            Self::Decoded { payload, .. } => payload.clone(),
        }
    }

    /// The event as Lambda delivered it.
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
