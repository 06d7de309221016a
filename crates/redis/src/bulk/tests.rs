//! Fuzz tests of the reading of payloads: whatever a server sends, in whatever pieces.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use arbtest::{arbitrary::Unstructured, arbtest};
use redis::cmd;
use tokio::io::ReadBuf;

use super::*;

/// A server's answer, in the pieces in which it arrives. After the last piece the connection ends.
struct Arriving(VecDeque<Vec<u8>>);

impl AsyncRead for Arriving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let taken = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece[..taken]);
            piece.drain(..taken);
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Cuts `answer` into pieces of arbitrary sizes.
fn in_pieces(u: &mut Unstructured<'_>, answer: &[u8]) -> arbtest::arbitrary::Result<Arriving> {
    let (mut pieces, mut rest) = (VecDeque::new(), answer);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(u.int_in_range(1..=rest.len())?);
        pieces.push_back(piece.to_vec());
        rest = after;
    }
    Ok(Arriving(pieces))
}

/// Reads one payload, and then whether the connection has something unread.
fn fetch(arriving: Arriving) -> (RedisResult<Option<Bytes>>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::io::join(arriving, tokio::io::sink());
        let mut connection = BulkConnection::new(Box::new(stream), Duration::from_secs(1));
        let fetched = connection.fetch(cmd("GET").arg("key")).await;
        (fetched, connection.expect_no_unread_answer().is_err())
    })
}

#[test]
fn a_payload_is_read_as_it_was_sent_in_whatever_pieces_it_arrives() {
    arbtest(|u| {
        let payload: Vec<u8> = u.arbitrary()?;
        let answer = [format!("${}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat();
        let (fetched, has_unread) = fetch(in_pieces(u, &answer)?);
        assert_eq!(fetched.unwrap().unwrap(), payload);
        assert!(!has_unread);
        Ok(())
    })
    .budget_ms(1000);
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    arbtest(|u| {
        let payload: Vec<u8> = u.arbitrary()?;
        let answer = [format!("${}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat();
        let cut = u.int_in_range(0..=answer.len() - 1)?;
        let (fetched, _) = fetch(in_pieces(u, &answer[..cut])?);
        assert!(fetched.is_err(), "{fetched:?}");
        Ok(())
    })
    .budget_ms(1000);
}

#[test]
fn arbitrary_bytes_are_a_payload_only_if_they_say_so_exactly() {
    arbtest(|u| {
        let starts: [&[u8]; 9] = [
            b"",
            b"$",
            b"$-1\r\n",
            b"$5\r\n",
            b"$99999999999999999999\r\n",
            b"-ERR ",
            b"*1\r\n",
            b":1\r\n",
            b"+",
        ];
        let start = u.choose(&starts)?;
        let answer = [start, u.arbitrary::<&[u8]>()?].concat();
        let (fetched, _) = fetch(in_pieces(u, &answer)?);
        match fetched {
            Ok(Some(payload)) => {
                let sent = [format!("${}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat();
                assert!(answer.starts_with(&sent), "{answer:?} was read as {payload:?}");
            }
            Ok(None) => assert!(answer.starts_with(b"$-1\r\n"), "{answer:?} was read as no payload"),
            Err(_) => {}
        }
        Ok(())
    })
    .budget_ms(2000);
}

#[test]
fn a_length_beyond_every_payload_is_an_error_and_takes_no_memory() {
    for length in ["6291457", "18446744073709551615"] {
        let answer = format!("${length}\r\n").into_bytes();
        let (fetched, _) = fetch(Arriving([answer].into()));
        let error = fetched.unwrap_err().to_string();
        assert!(error.contains("answers"), "{error}");
    }
    let endless = vec![b'$'; 1_000_000];
    let error = fetch(Arriving([endless].into())).0.unwrap_err().to_string();
    assert!(error.contains("answers"), "{error}");
}
