//! One connection to one node. A payload is written from its buffer directly to the socket, and read from the socket
//! directly into the buffer of its reader.
//!
//! The `redis` crate builds a command in one piece and copies it three times before it is encrypted. It copies an
//! answer as often. For a payload of several megabytes this would be most of ingest's time and memory. Therefore this
//! module sends commands and reads payloads itself, piece by piece. The parser of the `redis` crate reads all other
//! answers.

use std::{
    future::Future,
    io::{self, Write as _},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use combine::stream::{Decoder, PointerOffset};
use custody_core::MAX_EVENT_BYTES;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// A byte stream that a connection can use.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to a node. After an error that is not an answer of the server, it must not be used again: unread
/// answers may be left in it.
pub(crate) struct BulkConnection {
    stream: Box<dyn Stream>,
    answers: Answers,
    stall_limit: Duration,
    is_detached: bool,
}

type Answers = Decoder<combine::parser::combinator::AnySendSyncPartialState, PointerOffset<[u8]>>;

impl std::fmt::Debug for BulkConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkConnection").finish_non_exhaustive()
    }
}

/// Commands that are sent together. The server answers them one by one.
pub(crate) struct Batch<'a> {
    parts: Vec<Part<'a>>,
    answers: Vec<Expected>,
    asking: bool,
}

/// The size of the pieces in which a payload is sent. The time limit applies to each piece. The size is a multiple of
/// TLS's largest record.
const PIECE: usize = 64 * 1024;

enum Part<'a> {
    Encoded(Vec<u8>),
    Payload(&'a [u8]),
}

/// An expected answer.
#[derive(Clone, Copy)]
struct Expected {
    /// Whether the answer is returned to the caller.
    wanted: bool,
    /// The time that the command may run on the server, in addition to the time limit of the connection.
    takes: Duration,
}

impl<'a> Batch<'a> {
    /// Creates an empty batch. With `asking`, an `ASKING` command precedes each command about a key, so that a node
    /// that is still importing the key's slot accepts it.
    pub(crate) fn new(asking: bool) -> Self {
        Self { parts: Vec::new(), answers: Vec::new(), asking }
    }

    /// Adds a command that has a key.
    pub(crate) fn keyed(&mut self, command: &redis::Cmd) -> &mut Self {
        self.ask();
        self.plain(command, Duration::ZERO)
    }

    /// Adds a command that has no key and may run on the server for the time `takes`.
    pub(crate) fn plain(&mut self, command: &redis::Cmd, takes: Duration) -> &mut Self {
        self.parts.push(Part::Encoded(command.get_packed_command()));
        self.answers.push(Expected { wanted: true, takes });
        self
    }

    /// Adds a command that has a key and the payload as an argument. `before` and `after` are the arguments before and
    /// after the payload.
    pub(crate) fn keyed_with_payload(
        &mut self,
        before: &[&[u8]],
        payload: &'a [u8],
        after: &[&[u8]],
    ) -> &mut Self {
        self.ask();
        let argument = |text: &mut Vec<u8>, argument: &[u8]| {
            write!(text, "${}\r\n", argument.len()).ok();
            text.extend_from_slice(argument);
            text.extend_from_slice(b"\r\n");
        };
        let (mut head, mut tail) = (Vec::new(), b"\r\n".to_vec());
        // A write to a vector cannot fail.
        write!(head, "*{}\r\n", before.len() + 1 + after.len()).ok();
        for text in before {
            argument(&mut head, text);
        }
        write!(head, "${}\r\n", payload.len()).ok();
        for text in after {
            argument(&mut tail, text);
        }
        self.parts.extend([Part::Encoded(head), Part::Payload(payload), Part::Encoded(tail)]);
        self.answers.push(Expected { wanted: true, takes: Duration::ZERO });
        self
    }

    fn ask(&mut self) {
        if self.asking {
            self.parts.push(Part::Encoded(redis::cmd("ASKING").get_packed_command()));
            self.answers.push(Expected { wanted: false, takes: Duration::ZERO });
        }
    }
}

impl BulkConnection {
    /// Creates a connection over `stream`. The server may pause for `stall_limit` at each step.
    pub(crate) fn new(stream: Box<dyn Stream>, stall_limit: Duration) -> Self {
        Self { stream, answers: Decoder::new(), stall_limit, is_detached: false }
    }

    /// Sends commands and reads the answers to all of them. If answers are errors, returns the first of these errors.
    pub(crate) async fn run(&mut self, batch: &Batch<'_>) -> RedisResult<Vec<Value>> {
        self.expect_no_unread_answer()?;
        for part in &batch.parts {
            match part {
                Part::Encoded(bytes) => self.send(bytes).await?,
                Part::Payload(payload) => {
                    for piece in payload.chunks(PIECE) {
                        self.send(piece).await?;
                    }
                }
            }
        }
        within(self.stall_limit, self.stream.flush()).await?;
        let mut answers = Vec::with_capacity(batch.answers.len());
        for expected in &batch.answers {
            let answer = redis::parse_redis_value_async(&mut self.answers, &mut self.stream);
            answers.push(within(self.stall_limit + expected.takes, answer).await?);
        }
        self.expect_no_unread_answer()?;
        let answers: Vec<Value> =
            answers.into_iter().map(Value::extract_error).collect::<RedisResult<_>>()?;
        Ok(answers.into_iter().zip(&batch.answers).filter_map(|(a, e)| e.wanted.then_some(a)).collect())
    }

    /// Sends one command and reads the answer to it.
    pub(crate) async fn ask(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        let mut batch = Batch::new(false);
        batch.plain(command, Duration::ZERO);
        self.run(&batch).await?.pop().ok_or_else(answers_do_not_match)
    }

    async fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        within(self.stall_limit, self.stream.write_all(bytes)).await
    }

    /// Fails if an unread answer is left in the buffer: it would be mistaken for the answer to the next command.
    fn expect_no_unread_answer(&self) -> RedisResult<()> {
        if self.answers.buffer().is_empty() { Ok(()) } else { Err(answers_do_not_match()) }
    }
}

/// The size of one read of a payload. A small payload arrives in one read.
const READ_BYTES: usize = 64 * 1024;

/// The maximum length of the first line of an answer, which is a size or an error.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A payload that the server has begun to send.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The size of the payload in bytes.
    pub(crate) length: usize,
    /// The number of bytes that are still to be taken out of `read` or the socket: the rest of the payload and its line
    /// end.
    left: usize,
    read: BytesMut,
}

impl Incoming {
    /// Returns whether the whole payload and its line end were read.
    pub(crate) const fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// The line end that follows the data.
const LINE_END: &[u8] = b"\r\n";

impl BulkConnection {
    /// Sends a command whose answer is a payload, and reads the size of the payload. `None` if there is no payload.
    pub(crate) async fn begin_fetch(&mut self, command: &redis::Cmd) -> RedisResult<Option<Incoming>> {
        self.expect_no_unread_answer()?;
        self.send(&command.get_packed_command()).await?;
        within(self.stall_limit, self.stream.flush()).await?;
        let mut read = BytesMut::with_capacity(READ_BYTES);
        let line_end = loop {
            if let Some(end) = memchr::memchr(b'\n', &read) {
                break end;
            }
            if read.len() > MAX_LINE_BYTES {
                return Err(answers_do_not_match());
            }
            self.read_more(&mut read).await?;
        };
        let line = read.split_to(line_end + 1);
        let length = match line.strip_prefix(b"$").map(|length| std::str::from_utf8(length).map(str::trim)) {
            Some(Ok("-1")) if read.is_empty() => return Ok(None),
            Some(Ok(length)) => length.parse::<usize>().ok(),
            Some(Err(_)) | None => None,
        };
        match length {
            Some(length) if length > MAX_EVENT_BYTES => Err(answers_do_not_match()),
            Some(length) => Ok(Some(Incoming { length, left: length + LINE_END.len(), read })),
            None => Err(unexpected(&[redis::parse_redis_value(&line)?.extract_error()?])),
        }
    }

    /// Returns the next piece of the payload, or `None` after the last piece. The connection can be used again as soon
    /// as [`Incoming::is_complete`] returns true, which it does with the last piece.
    pub(crate) async fn next_piece(&mut self, incoming: &mut Incoming) -> RedisResult<Option<Bytes>> {
        if incoming.is_complete() {
            return Ok(None);
        }
        let Incoming { left, read, .. } = incoming;
        if read.is_empty() {
            read.reserve(READ_BYTES);
            self.read_more(read).await?;
        }
        let piece = read.split_to(read.len().min(*left - LINE_END.len())).freeze();
        *left -= piece.len();
        if *left == LINE_END.len() {
            while read.len() < *left {
                self.read_more(read).await?;
            }
            if read.as_ref() != LINE_END {
                return Err(answers_do_not_match());
            }
            *left = 0;
        }
        Ok(Some(piece))
    }

    /// Sends a command whose answer is a payload, and reads the whole payload. `None` if there is no payload.
    pub(crate) async fn fetch(&mut self, command: &redis::Cmd) -> RedisResult<Option<Bytes>> {
        let Some(mut incoming) = self.begin_fetch(command).await? else { return Ok(None) };
        let mut data = BytesMut::with_capacity(incoming.length);
        while let Some(piece) = self.next_piece(&mut incoming).await? {
            data.extend_from_slice(&piece);
        }
        Ok(Some(data.freeze()))
    }

    /// Moves the connection out of `self`, and leaves a closed connection in its place.
    pub(crate) fn detach(&mut self) -> Self {
        let closed =
            Self::new(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink())), self.stall_limit);
        let taken = std::mem::replace(self, closed);
        self.is_detached = true;
        taken
    }

    /// Returns whether [`detach`](Self::detach) has moved the connection away.
    pub(crate) const fn is_detached(&self) -> bool {
        self.is_detached
    }

    async fn read_more(&mut self, into: &mut BytesMut) -> RedisResult<()> {
        match within(self.stall_limit, self.stream.read_buf(into)).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// Returns the result of a step, or a time-out error.
async fn within<T, E: Into<RedisError>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> RedisResult<T> {
    match timeout(limit, step).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(timed_out()),
    }
}

/// Creates the error for a server that does not continue within the time limit.
pub(crate) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Creates the error for answers that do not match the commands. No further answer on this connection can be trusted.
fn answers_do_not_match() -> RedisError {
    (ErrorKind::Parse, "the server's answers do not match the commands").into()
}

/// Creates the error for an answer of a type that the command never returns.
pub(crate) fn unexpected(answers: &[Value]) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answers", format!("{answers:?}")).into()
}

#[cfg(test)]
mod tests;
