//! One connection to one node. A payload goes from where it is straight to the socket, and from the socket straight to where
//! it is wanted.
//!
//! The `redis` crate builds a command in one piece and copies it three times before it is encrypted, and it copies an
//! answer as often. For a payload of megabytes that is most of what ingest would do, in time and in memory. So commands
//! are sent, and a payload is read, here, piece by piece; all other answers are read by the crate's parser.

use std::{
    future::Future,
    io::{self, Write as _},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use combine::stream::{Decoder, PointerOffset};
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// Anything that a connection can run over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The connection. It must not be used again after an error that is not an answer of the server: answers may be left in it.
pub(crate) struct BulkConnection {
    stream: Box<dyn Stream>,
    answers: Answers,
    stall_limit: Duration,
    is_taken: bool,
}

type Answers = Decoder<combine::parser::combinator::AnySendSyncPartialState, PointerOffset<[u8]>>;

impl std::fmt::Debug for BulkConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkConnection").finish_non_exhaustive()
    }
}

/// Commands that are sent together and answered one by one.
pub(crate) struct Batch<'a> {
    parts: Vec<Part<'a>>,
    answers: Vec<Expected>,
    asking: bool,
}

/// How much of a payload the server may take its time for: a multiple of TLS's largest record.
const PIECE: usize = 64 * 1024;

enum Part<'a> {
    Encoded(Vec<u8>),
    Payload(&'a [u8]),
}

/// An answer to come.
#[derive(Clone, Copy)]
struct Expected {
    /// Whether the caller wants it.
    wanted: bool,
    /// How long the command itself may take, beside the connection.
    takes: Duration,
}

impl<'a> Batch<'a> {
    /// No commands yet. With `asking`, each command about a key is let in at a node that is importing the key's slot.
    pub(crate) fn new(asking: bool) -> Self {
        Self { parts: Vec::new(), answers: Vec::new(), asking }
    }

    /// Adds a command about a key.
    pub(crate) fn keyed(&mut self, command: &redis::Cmd) -> &mut Self {
        self.ask();
        self.plain(command, Duration::ZERO)
    }

    /// Adds a command about no key, which takes so long by itself.
    pub(crate) fn plain(&mut self, command: &redis::Cmd, takes: Duration) -> &mut Self {
        self.parts.push(Part::Encoded(command.get_packed_command()));
        self.answers.push(Expected { wanted: true, takes });
        self
    }

    /// Adds a command about a key that has `payload` as an argument between others.
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
        // A vector takes all that is written to it.
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
    /// A connection over `stream`, on which the server may pause for `stall_limit`.
    pub(crate) fn new(stream: Box<dyn Stream>, stall_limit: Duration) -> Self {
        Self { stream, answers: Decoder::new(), stall_limit, is_taken: false }
    }

    /// Sends commands and reads the answers to all of them. The first answer that is an error is the error.
    pub(crate) async fn run(&mut self, batch: &Batch<'_>) -> RedisResult<Vec<Value>> {
        self.expect_nothing_left()?;
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
        self.expect_nothing_left()?;
        let answers: Vec<Value> =
            answers.into_iter().map(Value::extract_error).collect::<RedisResult<_>>()?;
        Ok(answers.into_iter().zip(&batch.answers).filter_map(|(a, e)| e.wanted.then_some(a)).collect())
    }

    /// Sends one command and reads the answer to it.
    pub(crate) async fn ask(&mut self, command: &redis::Cmd) -> RedisResult<Value> {
        let mut batch = Batch::new(false);
        batch.plain(command, Duration::ZERO);
        self.run(&batch).await?.pop().ok_or_else(out_of_step)
    }

    async fn send(&mut self, bytes: &[u8]) -> RedisResult<()> {
        within(self.stall_limit, self.stream.write_all(bytes)).await
    }

    /// An answer too many would be taken for that to the next command.
    fn expect_nothing_left(&self) -> RedisResult<()> {
        if self.answers.buffer().is_empty() { Ok(()) } else { Err(out_of_step()) }
    }
}

/// How much of a payload is read at once. A small payload comes in one read.
const READ_BYTES: usize = 64 * 1024;

/// Data that the server has begun to send.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// The size of the data.
    pub(crate) length: usize,
    /// How much of the data, and of the end of its line, is still to be taken out of `read`.
    left: usize,
    read: BytesMut,
}

impl Incoming {
    /// Whether all of it has come, the end of its line included.
    pub(crate) const fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// The end of data's line.
const LINE_END: &[u8] = b"\r\n";

impl BulkConnection {
    /// Asks for data, and reads until it begins. `None` where there is none.
    pub(crate) async fn begin_fetch(&mut self, command: &redis::Cmd) -> RedisResult<Option<Incoming>> {
        self.expect_nothing_left()?;
        self.send(&command.get_packed_command()).await?;
        within(self.stall_limit, self.stream.flush()).await?;
        let mut read = BytesMut::with_capacity(READ_BYTES);
        let line_end = loop {
            if let Some(end) = memchr::memchr(b'\n', &read) {
                break end;
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
            Some(length) => Ok(Some(Incoming { length, left: length + LINE_END.len(), read })),
            None => Err(unexpected(&[redis::parse_redis_value(&line)?.extract_error()?])),
        }
    }

    /// The next piece of the data; `None` after the last one. The connection can be used again as soon as
    /// [`Incoming::is_complete`] says so: with the last piece.
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
                return Err(out_of_step());
            }
            *left = 0;
        }
        Ok(Some(piece))
    }

    /// Asks for data, and reads all of it. `None` where there is none.
    pub(crate) async fn fetch(&mut self, command: &redis::Cmd) -> RedisResult<Option<Bytes>> {
        let Some(mut incoming) = self.begin_fetch(command).await? else { return Ok(None) };
        let mut data = BytesMut::with_capacity(incoming.length);
        while let Some(piece) = self.next_piece(&mut incoming).await? {
            data.extend_from_slice(&piece);
        }
        Ok(Some(data.freeze()))
    }

    /// Takes the connection out of its place. What stays there is closed.
    pub(crate) fn take(&mut self) -> Self {
        let closed =
            Self::new(Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink())), self.stall_limit);
        let taken = std::mem::replace(self, closed);
        self.is_taken = true;
        taken
    }

    /// Whether the connection was taken out of its place.
    pub(crate) const fn is_taken(&self) -> bool {
        self.is_taken
    }

    async fn read_more(&mut self, into: &mut BytesMut) -> RedisResult<()> {
        match within(self.stall_limit, self.stream.read_buf(into)).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// The result of a step, or a time-out.
async fn within<T, E: Into<RedisError>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> RedisResult<T> {
    match timeout(limit, step).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(timed_out()),
    }
}

/// The error of a server that does not go on.
pub(crate) fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

/// Answers and commands no longer belong together: nothing that this connection reports can be relied on.
fn out_of_step() -> RedisError {
    (ErrorKind::Parse, "the server's answers do not match the commands").into()
}

/// An answer that no server gives to these commands.
pub(crate) fn unexpected(answers: &[Value]) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answers", format!("{answers:?}")).into()
}
