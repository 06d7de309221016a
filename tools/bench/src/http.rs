//! Reads and writes HTTP/1.1 messages on blocking sockets. It supports only what the Runtime API, the AWS stub and the
//! baseline exchange.

use std::io::{self, BufRead, Read, Write};

use anyhow::{Context as _, bail, ensure};

/// The maximum size of the head of a message.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 64;

/// A request or a response without its body.
#[derive(Debug)]
pub struct Head {
    /// The first line: `POST /path HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub start_line: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Returns the value of a header. The case of the name makes no difference.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the method of a request.
    pub fn method(&self) -> &str {
        self.start_line.split(' ').next().unwrap_or_default()
    }

    /// Returns the target of a request.
    pub fn path(&self) -> &str {
        self.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// Returns the number of bytes in the body.
    pub fn content_length(&self) -> anyhow::Result<usize> {
        ensure!(self.header("transfer-encoding").is_none(), "a body of unknown length: {}", self.start_line);
        self.header("content-length").map_or(Ok(0), |text| text.parse().context("read Content-Length"))
    }
}

/// Reads the head of a message. Returns `None` if the peer has closed the connection.
pub fn read_head(reader: &mut impl BufRead) -> anyhow::Result<Option<Head>> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let before = text.len();
        match reader.read_until(b'\n', &mut text) {
            Ok(_) => {}
            Err(error) if before == 0 && is_end(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if text.len() == before {
            ensure!(before == 0, "the connection ended within a message");
            return Ok(None);
        }
        ensure!(text.len() <= MAX_HEAD_BYTES, "a message's head has more than {MAX_HEAD_BYTES} bytes");
    }
    let line_end = text.iter().position(|byte| *byte == b'\r').unwrap_or_default();
    let start_line = String::from_utf8(text[..line_end].to_vec()).context("read a start line")?;
    let mut parsed = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let httparse::Status::Complete((_, parsed)) =
        httparse::parse_headers(&text[line_end + 2..], &mut parsed)?
    else {
        bail!("the head of a message is cut off");
    };
    let headers = parsed
        .iter()
        .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()));
    Ok(Some(Head { start_line, headers: headers.collect() }))
}

/// Reads a body into `body`, and reuses its memory.
pub fn read_body(reader: &mut impl Read, head: &Head, body: &mut Vec<u8>) -> anyhow::Result<()> {
    body.resize(head.content_length()?, 0);
    Ok(reader.read_exact(body)?)
}

/// Writes a response with a JSON body.
pub fn respond(writer: &mut impl Write, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    writer.write_all(text.as_bytes())?;
    writer.flush()
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted)
}
