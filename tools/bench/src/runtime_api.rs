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

/// The maximum time to wait for the function. It has no effect on measured times.
const PATIENCE: Duration = Duration::from_mins(1);

/// The Runtime API that one function uses.
#[derive(Debug)]
pub struct RuntimeApi {
    port: u16,
    requests: Receiver<Request>,
    /// The connections on which the function waits for its next event: one, or as many as the events that it processes
    /// at once.
    waiting: Vec<TcpStream>,
}

/// A request of the function.
#[derive(Debug)]
struct Request {
    path: String,
    body: Vec<u8>,
    /// The time at which the last byte of the request was read.
    arrived: Instant,
    connection: TcpStream,
}

/// An event, with the sizes that the baseline needs.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// The event's bytes.
    pub event: &'a [u8],
    /// The number of payload bytes to move. Functions ignore this value. The baseline needs it, because it does not
    /// parse the event.
    pub payload_bytes: usize,
    /// The size of the request that accepts the record. Functions ignore this value; the baseline needs it.
    pub acceptance_bytes: usize,
}

/// The response that a function has posted.
#[derive(Debug)]
pub struct Response {
    /// The body of the response.
    pub body: Vec<u8>,
    /// The time at which the first byte of the event was sent.
    pub begun: Instant,
    /// The time at which the last byte of the event was sent.
    pub sent: Instant,
    /// The time at which the last byte of the response had arrived.
    pub posted: Instant,
}

impl RuntimeApi {
    /// Starts a Runtime API on a separate port.
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

    /// Returns the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until the function, which runs as `process`, asks for an event. Returns the time of that request.
    pub fn wait_until_idle(&mut self, process: &mut Child) -> anyhow::Result<Instant> {
        let request = self.receive(process)?;
        if !request.path.ends_with("/invocation/next") {
            bail!("the function sent {}: {}", request.path, String::from_utf8_lossy(&request.body));
        }
        self.waiting.push(request.connection);
        Ok(request.arrived)
    }

    /// Sends an event to the function, which must be idle, and waits for its response.
    pub fn invoke(&mut self, process: &mut Child, invocation: &Invocation<'_>) -> anyhow::Result<Response> {
        let Some(connection) = self.waiting.pop() else { bail!("the function is not idle") };
        let (begun, sent) = send(connection, invocation, 0)?;
        let request = self.receive(process)?;
        request.expect_response()?;
        Ok(Response { body: request.body, begun, sent, posted: request.arrived })
    }

    /// Sends an event each time that the function asks for one, and waits for all responses. Returns the responses in
    /// the order of the events.
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
                    // Sends in a thread, so that an event that the function reads slowly does not delay the others.
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

    /// Ends the connections on which the function waits for events, so that the function ends without being killed.
    pub fn close_waiting_connections(&mut self) {
        // The runtime returns from `run` with an error when a connection ends without an answer.
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
                        bail!("the function ended with {status}; its standard error has the reason");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the Runtime API ended"),
            }
        }
        bail!("the function sent no request for {} s", PATIENCE.as_secs())
    }
}

impl Request {
    /// Returns the number of the event that this request is the response to.
    fn expect_response(&self) -> anyhow::Result<usize> {
        let id = self.path.strip_suffix("/response").and_then(|path| path.rsplit('/').next());
        let Some(id) = id else { bail!("the function failed: {}", String::from_utf8_lossy(&self.body)) };
        let index = id.split('-').next().unwrap_or_default();
        usize::from_str_radix(index, 16).with_context(|| format!("a response to {id}"))
    }
}

/// Sends event number `index`. Returns the times at which sending began and ended.
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

/// Reads the requests of one connection until the connection ends.
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
    // An error means that nobody receives requests any more, or that the function was killed. Both are normal at the
    // end of a run.
    drop(serve());
}
