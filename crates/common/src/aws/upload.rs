//! The body of an upload: the pieces of a payload as they come out of another store.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use custody_core::payload_source::{PayloadSource, Pieces};
use futures_util::Stream as _;
use http_body::{Body, Frame, SizeHint};
use sync_wrapper::SyncWrapper;

/// The payload as a body that each try of the upload reads from its beginning.
pub(super) fn upload(payload: PayloadSource) -> ByteStream {
    let body = move || {
        let pieces = SyncWrapper::new(payload.pieces());
        SdkBody::from_body_1_x(Upload { pieces, left: payload.size_bytes() })
    };
    ByteStream::new(SdkBody::retryable(body))
}

struct Upload {
    pieces: SyncWrapper<Pieces>,
    left: u64,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = ready!(Pin::new(self.pieces.get_mut()).poll_next(context));
        Poll::Ready(piece.map(|piece| {
            let piece = piece?;
            self.left = self.left.saturating_sub(piece.len() as u64);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
