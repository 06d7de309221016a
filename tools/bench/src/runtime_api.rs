//! Lambda's side of the Runtime API, for one function.
//!
//! Source: AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes".

use std::{
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    panic::resume_unwind,
    process::Child,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::http;

/// The longest that anything here may take. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_mins(1);

/// The Runtime API that one function talks to.
#[derive(Debug)]
pub struct RuntimeApi {
    port: u16,
    requests: Receiver<Request>,
    /// Where the function waits for its next event: in one place, or in as many as it deals with at once.
    waiting: Vec<TcpStream>,
}

/// What a function asked or said.
#[derive(Debug)]
struct Request {
    path: String,
    body: Vec<u8>,
    /// When the last byte of it was read.
    arrived: Instant,
    connection: TcpStream,
}

/// An event on its way.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// The event's bytes.
    pub event: &'a [u8],
    /// How many bytes its payload has. Functions ignore this; the baseline is told, because it does not parse.
    pub payload_bytes: usize,
    /// How many bytes the request has by which the record is accepted. Functions ignore this; the baseline is told.
    pub acceptance_bytes: usize,
}

/// The response that a function has posted.
#[derive(Debug)]
pub struct Response {
    /// Its body.
    pub body: Vec<u8>,
    /// When the first byte of the event was sent.
    pub begun: Instant,
    /// When the last byte of the event was sent.
    pub sent: Instant,
    /// When the last byte of the response had arrived.
    pub posted: Instant,
}

impl RuntimeApi {
    /// Listens on a port of its own.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("bind the Runtime API")?;
        let port = listener.local_addr()?.port();
        let (sender, requests) = channel();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || serve(&connection, &sender));
            }
        });
        Ok(Self { port, requests, waiting: Vec::new() })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until the function, which runs as `process`, asks for an event, and says when it did.
    pub fn wait_until_idle(&mut self, process: &mut Child) -> anyhow::Result<Instant> {
        let request = self.receive(process)?;
        if !request.path.ends_with("/invocation/next") {
            bail!("the function said {}: {}", request.path, String::from_utf8_lossy(&request.body));
        }
        self.waiting.push(request.connection);
        Ok(request.arrived)
    }

    /// Hands an event to the function, which must be idle, and waits for its response.
    pub fn invoke(&mut self, process: &mut Child, invocation: &Invocation<'_>) -> anyhow::Result<Response> {
        let Some(connection) = self.waiting.pop() else { bail!("the function is not idle") };
        let (begun, sent) = send(connection, invocation, 0)?;
        let request = self.receive(process)?;
        request.expect_response()?;
        Ok(Response { body: request.body, begun, sent, posted: request.arrived })
    }

    /// Hands over events as often as the function asks for one, and waits for all responses: that to each event, in the order
    /// of the events.
    pub fn invoke_all(
        &mut self,
        process: &mut Child,
        invocations: &[Invocation<'_>],
    ) -> anyhow::Result<Vec<Response>> {
        let mut posted: Vec<Option<(Vec<u8>, Instant)>> = invocations.iter().map(|_| None).collect();
        let sent = thread::scope(|scope| -> anyhow::Result<Vec<(Instant, Instant)>> {
            let (mut to_send, mut left) = (invocations.iter().enumerate(), invocations.len());
            let mut sending = Vec::with_capacity(invocations.len());
            while left > 0 {
                while let Some(connection) = self.waiting.pop() {
                    let Some((index, invocation)) = to_send.next() else {
                        self.waiting.push(connection);
                        break;
                    };
                    // An event that the function is slow to read holds up no other.
                    sending.push(scope.spawn(move || send(connection, invocation, index)));
                }
                let request = self.receive(process)?;
                if request.path.ends_with("/invocation/next") {
                    self.waiting.push(request.connection);
                    continue;
                }
                let index = request.expect_response()?;
                let place = posted.get_mut(index).context("a response to no event")?;
                if place.replace((request.body, request.arrived)).is_some() {
                    bail!("the function answered event {index} twice");
                }
                left -= 1;
            }
            sending.into_iter().map(|sent| sent.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })?;
        let responses = posted.into_iter().zip(sent).map(|(posted, (begun, sent))| {
            let (body, posted) = posted.context("an event without a response")?;
            Ok(Response { body, begun, sent, posted })
        });
        responses.collect()
    }

    /// Makes a function that waits for an event end in good order.
    pub fn refuse_next(&mut self) {
        // A connection that ends without an answer is an error that the runtime returns from `run`.
        for connection in self.waiting.drain(..) {
            connection.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    fn receive(&self, process: &mut Child) -> anyhow::Result<Request> {
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            match self.requests.recv_timeout(Duration::from_millis(500)) {
                Ok(request) => return Ok(request),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = process.try_wait()? {
                        bail!("it ended with {status}; its standard error says why");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the Runtime API ended"),
            }
        }
        bail!("it said nothing for {} s", PATIENCE.as_secs())
    }
}

impl Request {
    /// The number of the event that this is the response to.
    fn expect_response(&self) -> anyhow::Result<usize> {
        let id = self.path.strip_suffix("/response").and_then(|path| path.rsplit('/').next());
        let Some(id) = id else { bail!("the function failed: {}", String::from_utf8_lossy(&self.body)) };
        let index = id.split('-').next().unwrap_or_default();
        usize::from_str_radix(index, 16).with_context(|| format!("a response to {id}"))
    }
}

/// Sends event number `index`; when that began, and when it was done.
fn send(
    mut connection: TcpStream,
    Invocation { event, payload_bytes, acceptance_bytes }: &Invocation<'_>,
    index: usize,
) -> anyhow::Result<(Instant, Instant)> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
         lambda-runtime-aws-request-id: {index:08x}-e9f4-11e8-9739-2dfe598c3fcd\r\n\
         lambda-runtime-deadline-ms: 9999999999999\r\n\
         lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:bench\r\n\
         lambda-runtime-trace-id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\n\
         custody-bench-payload-bytes: {payload_bytes}\r\n\
         custody-bench-acceptance-bytes: {acceptance_bytes}\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );
    let begun = Instant::now();
    connection.write_all(head.as_bytes())?;
    connection.write_all(event)?;
    Ok((begun, Instant::now()))
}

/// Reads the requests of one connection until it ends.
fn serve(connection: &TcpStream, requests: &Sender<Request>) {
    let serve = || -> anyhow::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        while let Some(head) = http::read_head(&mut reader)? {
            let mut body = Vec::new();
            http::read_body(&mut reader, &head, &mut body)?;
            let arrived = Instant::now();
            if head.method() == "POST" {
                http::respond(&mut &*connection, "202 Accepted", "", "")?;
            }
            let path = head.path().to_owned();
            requests.send(Request { path, body, arrived, connection: connection.try_clone()? })?;
        }
        Ok(())
    };
    // Nobody listens any more, or the function was killed: both are how a run ends.
    drop(serve());
}
