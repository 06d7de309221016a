//! A blocking connection to Redis that copies no payload: the floor's, and the harness's own.

use std::{
    io::{BufReader, Read as _, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use custody_test_support::redis_server::PASSWORD;

use crate::tls::{self, ClientStream};

/// An encrypted connection.
#[derive(Debug)]
pub struct RedisLink {
    stream: BufReader<ClientStream>,
}

/// An answer of Redis.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`, and the number of bytes of an answer that is data.
    Done,
    /// `:1`
    Integer(i64),
    /// There is no such value.
    Nothing,
}

impl RedisLink {
    /// Connects and logs in.
    pub fn connect(port: u16, ca_file: &Path) -> anyhow::Result<Self> {
        let mut link = Self { stream: BufReader::new(tls::connect(port, ca_file)?) };
        link.run(&[b"AUTH", PASSWORD.as_bytes()])?;
        Ok(link)
    }

    /// Sends a command and reads its answer, which must not be data.
    pub fn run(&mut self, arguments: &[&[u8]]) -> anyhow::Result<Reply> {
        self.send(arguments)?;
        self.receive(&mut Vec::new())
    }

    /// Sends a command.
    pub fn send(&mut self, arguments: &[&[u8]]) -> anyhow::Result<()> {
        let stream = self.stream.get_mut();
        write!(stream, "*{}\r\n", arguments.len())?;
        for argument in arguments {
            write!(stream, "${}\r\n", argument.len())?;
            stream.write_all(argument)?;
            stream.write_all(b"\r\n")?;
        }
        Ok(stream.flush()?)
    }

    /// Reads the answer to the oldest command without one. Data goes to `data`, whose space is used again.
    pub fn receive(&mut self, data: &mut Vec<u8>) -> anyhow::Result<Reply> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("read an answer of Redis")?;
            line.push(byte[0]);
        }
        let text = std::str::from_utf8(&line[1..line.len() - 2])?;
        match line[0] {
            b'+' => Ok(Reply::Done),
            b':' => Ok(Reply::Integer(text.parse()?)),
            b'$' if text == "-1" => Ok(Reply::Nothing),
            b'$' => {
                let length: usize = text.parse()?;
                data.resize(length + 2, 0);
                self.stream.read_exact(data)?;
                data.truncate(length);
                Ok(Reply::Done)
            }
            _ => bail!("Redis answered {}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}
