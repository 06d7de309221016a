//! The body of an S3 upload: the pieces of a payload, as they are read from another store.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use custody_core::payload_source::{PayloadSource, Pieces};
use futures_util::Stream as _;
use http_body::{Body, Frame, SizeHint};
use sync_wrapper::SyncWrapper;

/// Creates an upload body. Each try of the upload reads the payload from its beginning.
pub(crate) fn upload(payload: PayloadSource) -> ByteStream {
    let payload = Arc::new(payload);
    let body = move || {
        let left = payload.size_bytes();
        SdkBody::from_body_1_x(Upload { payload: Arc::clone(&payload), pieces: None, left })
    };
    ByteStream::new(SdkBody::retryable(body))
}

struct Upload {
    payload: Arc<PayloadSource>,
    /// The stream of pieces. It is created when the first piece is requested, because the AWS client creates bodies
    /// that it never sends.
    pieces: Option<SyncWrapper<Pieces>>,
    left: u64,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self { payload, pieces, .. } = &mut *self;
        let pieces = pieces.get_or_insert_with(|| SyncWrapper::new(payload.pieces()));
        let piece = ready!(Pin::new(pieces.get_mut()).poll_next(context));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn a_body_that_is_not_sent_reads_nothing() {
        let opened = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&opened);
        let whole = || stream::iter([Ok(Bytes::from_static(b"payload"))]).boxed();
        let again = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            whole()
        };
        let kept = upload(PayloadSource::new(7, whole(), again)).into_inner();
        for tries in 0..3 {
            let sent = kept.try_clone().expect("an upload can be tried again");
            assert_eq!(ByteStream::new(sent).collect().await.unwrap().into_bytes(), b"payload".as_slice());
            assert_eq!(opened.load(Ordering::Relaxed), tries, "the first try reads what was opened");
        }
    }
}
