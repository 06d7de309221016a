//! The event of a request, as it is stored where the request is rejected.

use std::ops::Range;

use base64_simd::STANDARD;
use bytes::{Bytes, BytesMut};

use super::in_place;

/// An event as Lambda delivered it, or the parts that it can be put together from.
#[derive(Clone, Debug)]
pub enum OriginalEvent {
    /// The event itself: nothing of it was decoded.
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
    /// Decodes a run of base64 in the event's own memory, and has the bytes that it stands for. `Err` has the event as it was,
    /// where the run is no base64.
    pub(super) fn decode(event: Bytes, run: Range<usize>) -> Result<(Self, Bytes), Bytes> {
        // Nobody else holds it, unless it came in the same piece as other messages: then it is small.
        let mut buffer = event.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        let Some(length) = in_place::decode(&mut buffer[run.clone()]) else { return Err(buffer.freeze()) };
        let event = buffer.freeze();
        let payload = event.slice(run.start..run.start + length);
        let (before, after) = (event.slice(..run.start), event.slice(run.end..));
        Ok((Self::Decoded { before, payload: payload.clone(), after }, payload))
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
