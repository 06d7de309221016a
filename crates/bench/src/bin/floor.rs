//! The floor: what a function's bytes cost to move, with nothing else done to them.
//!
//! `custody-bench-floor ingest` takes an event from the Runtime API, writes as many bytes as its payload has to Redis,
//! waits for the replica, and answers. `custody-bench-floor archive` reads a payload from Redis and puts it to S3. Both use
//! one thread, one buffer that is never given back, and the TLS library of the functions.

use std::{
    io::{BufReader, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use custody_bench::{
    http::{self, Head},
    redis_link::{RedisLink, Reply},
    tls::{self, ClientStream},
};

#[derive(Parser)]
struct Arguments {
    /// Whose floor.
    #[arg(value_enum)]
    of: Of,
    #[arg(long, env = "AWS_LAMBDA_RUNTIME_API")]
    runtime_api: String,
    #[arg(long, env = "REDIS_PORT")]
    redis_port: u16,
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    aws: String,
    #[arg(long, env = "CUSTODY_BENCH_CA")]
    ca_file: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Of {
    Ingest,
    Archive,
}

fn main() -> anyhow::Result<()> {
    let Arguments { of, runtime_api, redis_port, aws, ca_file } = Arguments::parse();
    let connection = TcpStream::connect(&runtime_api).context("connect to the Runtime API")?;
    connection.set_nodelay(true)?;
    let mut api = BufReader::with_capacity(64 * 1024, connection);
    let mut event = Vec::new();
    let mut stores = Stores { redis_port, aws, ca_file, redis: None, s3: None, payload: Vec::new() };
    loop {
        write!(
            api.get_mut(),
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: {runtime_api}\r\n\r\n"
        )?;
        let Some(head) = http::read_head(&mut api)? else { return Ok(()) };
        http::read_body(&mut api, &head, &mut event)?;
        let answer = match of {
            Of::Ingest => stores.ingest(&head, &event)?,
            Of::Archive => stores.archive(&event)?,
        };
        let id = head.header("lambda-runtime-aws-request-id").context("the event has no request id")?;
        let length = answer.len();
        let response = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nhost: {runtime_api}\r\n\
             content-length: {length}\r\n\r\n{answer}"
        );
        api.get_mut().write_all(response.as_bytes())?;
        let Some(head) = http::read_head(&mut api)? else { bail!("the Runtime API ended") };
        http::read_body(&mut api, &head, &mut event)?;
    }
}

/// Connections, made when they are first needed.
struct Stores {
    redis_port: u16,
    aws: String,
    ca_file: PathBuf,
    redis: Option<RedisLink>,
    s3: Option<BufReader<ClientStream>>,
    payload: Vec<u8>,
}

fn made<T>(slot: &mut Option<T>, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<&mut T> {
    if slot.is_none() {
        *slot = Some(make()?);
    }
    slot.as_mut().context("it was just made")
}

impl Stores {
    fn ingest(&mut self, head: &Head, event: &[u8]) -> anyhow::Result<String> {
        let size: usize =
            head.header("custody-bench-payload-bytes").context("the payload's size is not told")?.parse()?;
        let redis = made(&mut self.redis, || RedisLink::connect(self.redis_port, &self.ca_file))?;
        redis.send(&[b"HSET", b"{s00}:rec:floor", b"payload", &event[..size]])?;
        redis.send(&[b"WAIT", b"1", b"1500"])?;
        redis.receive(&mut self.payload)?;
        if redis.receive(&mut self.payload)? != Reply::Integer(1) {
            bail!("the replica did not confirm the payload");
        }
        // As long as a receipt.
        Ok(format!("\"replicated{:500}\"", ""))
    }

    fn archive(&mut self, event: &[u8]) -> anyhow::Result<String> {
        let key = redis_key(event)?;
        let redis = made(&mut self.redis, || RedisLink::connect(self.redis_port, &self.ca_file))?;
        redis.send(&[b"HGET", key.as_bytes(), b"payload"])?;
        if redis.receive(&mut self.payload)? != Reply::Done {
            bail!("Redis has no payload under {key}");
        }
        let s3 = made(&mut self.s3, || connect_to_s3(&self.aws, &self.ca_file))?;
        let length = self.payload.len();
        write!(
            s3.get_mut(),
            "PUT /archive/floor HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        )?;
        s3.get_mut().write_all(&self.payload)?;
        s3.get_mut().flush()?;
        let Some(head) = http::read_head(s3)? else { bail!("the stub ended") };
        http::read_body(s3, &head, &mut Vec::new())?;
        Ok(format!("\"S3Reference{:300}\"", ""))
    }
}

/// The key in the event, by position: the floor does not parse.
fn redis_key(event: &[u8]) -> anyhow::Result<String> {
    const BEFORE: &str = "\"key\":\"";
    let text = std::str::from_utf8(event)?;
    let (_, rest) = text.split_once(BEFORE).context("the event has no key")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

fn connect_to_s3(endpoint: &str, ca_file: &Path) -> anyhow::Result<BufReader<ClientStream>> {
    let port = endpoint.rsplit(':').next().unwrap_or_default().parse().context("read AWS_ENDPOINT_URL")?;
    Ok(BufReader::new(tls::connect(port, ca_file)?))
}
