//! The baseline: moves the bytes of a function and does nothing else with them.
//!
//! `custody-bench-baseline ingest` takes an event from the Runtime API, writes as many bytes as its payload has to the
//! cache, waits for the replica, puts one item of the open record's size to DynamoDB, and answers.
//! `custody-bench-baseline archive` reads a payload from the cache and puts it to S3. Both use one thread, one buffer
//! that is never freed, and the TLS library of the functions. They sign nothing.

use std::{
    io::{BufReader, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Parser, ValueEnum};
use custody_bench::{
    http::{self, Head},
    redis_link::{self, RedisLink, Reply},
    tls::{self, ClientStream},
};

#[derive(Parser)]
struct Arguments {
    /// The function whose baseline runs.
    #[arg(value_enum)]
    of: BaselineFunction,
    #[arg(long, env = "AWS_LAMBDA_RUNTIME_API")]
    runtime_api: String,
    #[arg(long, env = "CACHE_PORT")]
    cache_port: u16,
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    aws: String,
    #[arg(long, env = "CUSTODY_BENCH_CA")]
    ca_file: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum BaselineFunction {
    Ingest,
    Archive,
}

fn main() -> anyhow::Result<()> {
    let Arguments { of, runtime_api, cache_port, aws, ca_file } = Arguments::parse();
    let connection = TcpStream::connect(&runtime_api).context("connect to the Runtime API")?;
    connection.set_nodelay(true)?;
    let mut api = BufReader::with_capacity(64 * 1024, connection);
    let mut event = Vec::new();
    let mut stores =
        Stores { cache_port, endpoint: aws, ca_file, cache: None, aws: None, payload: Vec::new() };
    loop {
        write!(
            api.get_mut(),
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: {runtime_api}\r\n\r\n"
        )?;
        let Some(head) = http::read_head(&mut api)? else { return Ok(()) };
        http::read_body(&mut api, &head, &mut event)?;
        let answer = match of {
            BaselineFunction::Ingest => stores.ingest(&head, &event)?,
            BaselineFunction::Archive => stores.archive(&event)?,
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

/// The connections to the stores, which are made when they are first needed.
struct Stores {
    cache_port: u16,
    endpoint: String,
    ca_file: PathBuf,
    cache: Option<RedisLink>,
    aws: Option<BufReader<ClientStream>>,
    payload: Vec<u8>,
}

fn get_or_make<T>(slot: &mut Option<T>, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<&mut T> {
    if slot.is_none() {
        *slot = Some(make()?);
    }
    slot.as_mut().context("it was just made")
}

impl Stores {
    fn ingest(&mut self, head: &Head, event: &[u8]) -> anyhow::Result<String> {
        let told = |name| -> anyhow::Result<usize> {
            Ok(head.header(name).with_context(|| format!("the event has no {name}"))?.parse()?)
        };
        let payload_bytes = told("custody-bench-payload-bytes")?;
        let acceptance_bytes = told("custody-bench-acceptance-bytes")?;
        let cache = get_or_make(&mut self.cache, || connect_to_cache(self.cache_port, &self.ca_file))?;
        cache.send(&[b"SET", b"rec:baseline", &event[..payload_bytes], b"PX", b"604800000"])?;
        cache.send(&[b"WAIT", b"1", b"1500"])?;
        cache.receive(&mut self.payload)?;
        if cache.receive(&mut self.payload)? != Reply::Integer(1) {
            bail!("the replica did not confirm the payload");
        }
        let aws = get_or_make(&mut self.aws, || connect_to_aws(&self.endpoint, &self.ca_file))?;
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-amz-target: DynamoDB_20120810.PutItem\r\ncontent-length: {acceptance_bytes}\r\n\r\n\
             {:acceptance_bytes$}",
            ""
        );
        aws.get_mut().write_all(request.as_bytes())?;
        receive(aws)?;
        // The answer is as long as a receipt.
        Ok(format!("\"replicated{:500}\"", ""))
    }

    fn archive(&mut self, event: &[u8]) -> anyhow::Result<String> {
        let key = cache_key(event)?;
        let cache = get_or_make(&mut self.cache, || connect_to_cache(self.cache_port, &self.ca_file))?;
        cache.send(&[b"GET", key.as_bytes()])?;
        if cache.receive(&mut self.payload)? != Reply::Done {
            bail!("the cache has no payload under {key}");
        }
        let s3 = get_or_make(&mut self.aws, || connect_to_aws(&self.endpoint, &self.ca_file))?;
        let length = self.payload.len();
        write!(
            s3.get_mut(),
            "PUT /archive/baseline HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
        )?;
        s3.get_mut().write_all(&self.payload)?;
        receive(s3)?;
        Ok(format!("\"S3Reference{:300}\"", ""))
    }
}

/// Finds the key in the text of the event, because the baseline does not parse JSON.
fn cache_key(event: &[u8]) -> anyhow::Result<String> {
    const BEFORE: &str = "\"key\":\"";
    let text = std::str::from_utf8(event)?;
    let (_, rest) = text.split_once(BEFORE).context("the event has no key")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

fn connect_to_cache(port: u16, ca_file: &Path) -> anyhow::Result<RedisLink> {
    RedisLink::connect(port, ca_file, redis_link::CLIENT)
}

fn connect_to_aws(endpoint: &str, ca_file: &Path) -> anyhow::Result<BufReader<ClientStream>> {
    let port = endpoint.rsplit(':').next().unwrap_or_default().parse().context("read AWS_ENDPOINT_URL")?;
    Ok(BufReader::new(tls::connect(port, ca_file)?))
}

/// Reads the answer to a request that was written.
fn receive(aws: &mut BufReader<ClientStream>) -> anyhow::Result<()> {
    aws.get_mut().flush()?;
    let Some(head) = http::read_head(aws)? else { bail!("the stub ended") };
    http::read_body(aws, &head, &mut Vec::new())
}
