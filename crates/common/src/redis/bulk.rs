//! A connection for payloads, which go from where they are straight to the socket, and from there straight to where they
//! are wanted.
//!
//! The `redis` crate builds a command in one piece and copies it three times before it is encrypted, and it copies an
//! answer as often. For a payload of megabytes that is most of what ingest would do, in time and in memory. So the one
//! command that writes a payload and the one that reads it are sent and read here, piece by piece; all other answers are
//! read by the crate's parser, and every other command is the crate's.

use std::io::{self, Write as _};

use bytes::BytesMut;
use combine::stream::{Decoder, PointerOffset};
use custody_core::{
    content::{Content, Digested},
    digest::Hasher,
};
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Anything that a connection can run over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The connection. After an error it must not be used again: answers may be left in it.
pub(super) struct BulkConnection {
    stream: Box<dyn Stream>,
    answers: Answers,
}

type Answers = Decoder<combine::parser::combinator::AnySendSyncPartialState, PointerOffset<[u8]>>;

impl std::fmt::Debug for BulkConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkConnection").finish_non_exhaustive()
    }
}

/// Commands that are sent together and answered one by one.
pub(super) struct Batch<'a> {
    parts: Vec<Part<'a>>,
    commands: usize,
}

enum Part<'a> {
    Encoded(Vec<u8>),
    Content(&'a Content<'a>),
    Late(&'a (dyn Fn() -> redis::Cmd + Sync)),
}

impl<'a> Batch<'a> {
    /// No commands yet.
    pub(super) fn new() -> Self {
        Self { parts: Vec::new(), commands: 0 }
    }

    /// Adds a command.
    pub(super) fn command(&mut self, command: &redis::Cmd) -> &mut Self {
        self.parts.push(Part::Encoded(command.get_packed_command()));
        self.commands += 1;
        self
    }

    /// Adds a command that can be made only when everything before it has been sent.
    pub(super) fn late_command(&mut self, command: &'a (dyn Fn() -> redis::Cmd + Sync)) -> &mut Self {
        self.parts.push(Part::Late(command));
        self.commands += 1;
        self
    }

    /// Adds a command of so many arguments, the last of which is `content`.
    pub(super) fn command_with_content(
        &mut self,
        arguments: &[&[u8]],
        content: &'a Content<'a>,
    ) -> &mut Self {
        let mut head = Vec::new();
        // A vector takes all that is written to it.
        write!(head, "*{}\r\n", arguments.len() + 1).ok();
        for argument in arguments {
            write!(head, "${}\r\n", argument.len()).ok();
            head.extend_from_slice(argument);
            head.extend_from_slice(b"\r\n");
        }
        write!(head, "${}\r\n", content.len()).ok();
        self.parts.extend([Part::Encoded(head), Part::Content(content), Part::Encoded(b"\r\n".to_vec())]);
        self.commands += 1;
        self
    }
}

impl BulkConnection {
    /// A connection over `stream`, logged in where there is a password.
    pub(super) async fn open(stream: Box<dyn Stream>, password: Option<&str>) -> RedisResult<Self> {
        let mut connection = Self { stream, answers: Decoder::new() };
        if let Some(password) = password {
            let mut login = Batch::new();
            login.command(redis::cmd("AUTH").arg(password));
            connection.run(&login).await.map_err(|error| {
                let refused = error.code().is_some();
                let explain =
                    || (ErrorKind::AuthenticationFailed, "AUTH was refused", error.to_string()).into();
                if refused { explain() } else { error }
            })?;
        }
        Ok(connection)
    }

    /// Sends commands and reads the answers to all of them. The first answer that is an error is the error.
    pub(super) async fn run(&mut self, batch: &Batch<'_>) -> RedisResult<Vec<Value>> {
        self.expect_nothing_left()?;
        for part in &batch.parts {
            match part {
                Part::Encoded(bytes) => self.stream.write_all(bytes).await?,
                Part::Late(command) => self.stream.write_all(&command().get_packed_command()).await?,
                Part::Content(content) => {
                    let mut pieces = content.pieces();
                    while let Some(piece) = pieces.next_piece() {
                        self.stream.write_all(piece).await?;
                    }
                }
            }
        }
        self.stream.flush().await?;
        let mut answers = Vec::with_capacity(batch.commands);
        for _ in 0..batch.commands {
            answers.push(redis::parse_redis_value_async(&mut self.answers, &mut self.stream).await?);
        }
        self.expect_nothing_left()?;
        answers.into_iter().map(Value::extract_error).collect()
    }

    /// An answer too many would be taken for that to the next command.
    fn expect_nothing_left(&self) -> RedisResult<()> {
        if self.answers.buffer().is_empty() { Ok(()) } else { Err(out_of_step()) }
    }
}

/// More than the answer's first line needs: a small payload comes in one read.
const FIRST_READ: usize = 16 * 1024;

impl BulkConnection {
    /// Asks for data, and digests it as it comes. `None` where there is none.
    pub(super) async fn fetch(&mut self, command: &redis::Cmd) -> RedisResult<Option<Digested>> {
        self.expect_nothing_left()?;
        self.stream.write_all(&command.get_packed_command()).await?;
        self.stream.flush().await?;
        let mut read = BytesMut::with_capacity(FIRST_READ);
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
        let Some(length) = length else {
            return Err(unexpected(&[redis::parse_redis_value(&line)?.extract_error()?]));
        };
        // The data and the end of its line.
        read.reserve((length + 2).saturating_sub(read.len()));
        let (mut hasher, mut digested) = (Hasher::default(), 0);
        while digested < length {
            let new = &read[digested..length.min(read.len())];
            hasher.update(new);
            digested += new.len();
            if digested < length {
                self.read_more(&mut read).await?;
            }
        }
        while read.len() < length + 2 {
            self.read_more(&mut read).await?;
        }
        if read[length..] != *b"\r\n" {
            return Err(out_of_step());
        }
        read.truncate(length);
        Ok(Some(Digested { bytes: read.freeze(), sha256: hasher.finish() }))
    }

    async fn read_more(&mut self, into: &mut BytesMut) -> RedisResult<()> {
        match self.stream.read_buf(into).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }
}

/// Answers and commands no longer belong together: nothing that this connection says can be relied on.
fn out_of_step() -> RedisError {
    (ErrorKind::Parse, "the server's answers do not match the commands").into()
}

/// An answer that no server gives to these commands.
pub(super) fn unexpected(answers: &[Value]) -> RedisError {
    (ErrorKind::UnexpectedReturnType, "unexpected answers", format!("{answers:?}")).into()
}
