//! A blocking connection to a node of the cache that does not copy payloads. The baseline and the harness use it.

use std::{
    io::{BufReader, Read as _, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use custody_redis_cluster::{PASSWORD, USERNAME};

use crate::tls::{self, ClientStream};

/// An encrypted connection to a Redis node.
#[derive(Debug)]
pub struct RedisLink {
    stream: BufReader<ClientStream>,
}

/// The name and the password of a user of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The user's name.
    pub username: &'a str,
    /// The password.
    pub password: &'a str,
}

/// The login of the functions. Its user may run only the cache's commands.
pub const CLIENT: Login<'static> = Login { username: USERNAME, password: PASSWORD };

/// An answer from Redis.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`, or data that [`RedisLink::receive`] has stored in its buffer.
    Done,
    /// An integer, such as `:1`.
    Integer(i64),
    /// Null: there is no such value.
    Nothing,
}

impl RedisLink {
    /// Connects and logs in.
    pub fn connect(port: u16, ca_file: &Path, login: Login<'_>) -> anyhow::Result<Self> {
        let mut link = Self { stream: BufReader::new(tls::connect(port, ca_file)?) };
        link.run(&[b"AUTH", login.username.as_bytes(), login.password.as_bytes()])?;
        Ok(link)
    }

    /// Removes all keys, on the replica as well.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        self.run(&[b"FLUSHALL"])?;
        self.run(&[b"WAIT", b"1", b"1000"])?;
        Ok(())
    }

    /// Returns the value of a field of `INFO`.
    pub fn info(&mut self, section: &str, field: &str) -> anyhow::Result<u64> {
        let mut text = Vec::new();
        self.send(&[b"INFO", section.as_bytes()])?;
        self.receive(&mut text)?;
        let text = String::from_utf8(text)?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.with_context(|| format!("INFO {section} has no {field}"))?.trim().parse().context("read INFO")
    }

    /// Returns the number of keys.
    pub fn keys(&mut self) -> anyhow::Result<i64> {
        match self.run(&[b"DBSIZE"])? {
            Reply::Integer(keys) => Ok(keys),
            reply => bail!("Redis answered DBSIZE with {reply:?}"),
        }
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

    /// Reads the answer to the oldest command that has no answer yet. Stores an answer with data in `data`, and reuses
    /// its memory.
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
