//! A stub for the rest of AWS: accepts every call that the functions make, and answers it at once or after a configured
//! latency.
//!
//! The stub stores nothing and checks nothing. The local stack tests what the functions do with S3, DynamoDB and Step
//! Functions. Here, the services only have to cost a client what their protocol costs: TLS, HTTP, and the bytes.

use std::{
    io::{BufReader, Write as _},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Sender,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use custody_core::testing::samples;
use custody_redis_cluster::{PASSWORD, USERNAME, certificates::Certificates};
use serde_json::{Value, json};

use crate::{
    http::{self, Head},
    latencies::Latencies,
    tls,
};

/// The name of the record table. The stub has an item for every record.
pub(crate) const RECORD_TABLE: &str = "record-items";

/// The name of the access table. The stub has an entry for every caller.
pub(crate) const ACCESS_TABLE: &str = "access-entries";

/// The configuration of a stub.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// The time that the stub waits before it answers.
    pub latencies: Latencies,
    /// The channel to which the stub sends every execution that is started.
    pub executions: Option<Sender<Execution>>,
    /// A text, and the additional latency of requests that contain this text.
    pub slow: Option<(String, Duration)>,
}

impl Behaviour {
    fn latency(&self, operation: &str, request: &[u8], answer: usize) -> Duration {
        let slow = self.slow.as_ref().filter(|(text, _)| contains(request, text));
        self.latencies.of(operation, request.len().max(answer)) + slow.map_or(Duration::ZERO, |(_, by)| *by)
    }
}

/// An execution of the workflow.
#[derive(Debug)]
pub struct Execution {
    /// The time at which the execution was started.
    pub started: Instant,
    /// The input of the execution.
    pub input: String,
}

/// A stub. It listens on a separate port as long as the process lives.
#[derive(Clone, Debug)]
pub struct AwsStub {
    port: u16,
    acceptance_bytes: Arc<AtomicUsize>,
}

impl AwsStub {
    /// Starts a stub.
    pub fn start(certificates: &Certificates, behaviour: Behaviour) -> anyhow::Result<Self> {
        let config = tls::server_config(&certificates.file("cert.pem"), &certificates.file("key.pem"))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("bind the AWS stub")?;
        let port = listener.local_addr()?.port();
        let acceptance_bytes = Arc::default();
        let service = Service { behaviour, acceptance_bytes: Arc::clone(&acceptance_bytes) };
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (config, service) = (Arc::clone(&config), service.clone());
                thread::spawn(move || {
                    let served = tls::accept(config, connection).and_then(|stream| service.serve(stream));
                    if let Err(error) = served {
                        eprintln!("the AWS stub ended a connection: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port, acceptance_bytes })
    }

    /// Returns the value of `AWS_ENDPOINT_URL`. It has an IP address instead of a host name, because the S3 client
    /// would put the name of the bucket in front of a host name.
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Returns the size of the last request that accepted a record: an open record, with the claim of its key if it has
    /// one. Returns 0 before the first such request.
    pub fn acceptance_bytes(&self) -> usize {
        self.acceptance_bytes.load(Ordering::Relaxed)
    }
}

/// The data that all connections of a stub share.
#[derive(Clone)]
struct Service {
    behaviour: Behaviour,
    acceptance_bytes: Arc<AtomicUsize>,
}

impl Service {
    fn serve(&self, stream: tls::ServerStream) -> anyhow::Result<()> {
        let mut reader = BufReader::with_capacity(64 * 1024, stream);
        let mut body = Vec::new();
        while let Some(head) = http::read_head(&mut reader)? {
            if head.header("expect").is_some() {
                reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                reader.get_mut().flush()?;
            }
            http::read_body(&mut reader, &head, &mut body)?;
            let operation = operation(&head);
            let (status, headers, answer) = answer(operation, &body);
            let latency = self.behaviour.latency(operation, &body, answer.len());
            if !latency.is_zero() {
                thread::sleep(latency);
            }
            self.note(operation, &body)?;
            http::respond(reader.get_mut(), status, headers, &answer)?;
        }
        Ok(())
    }

    fn note(&self, operation: &str, body: &[u8]) -> anyhow::Result<()> {
        match (operation, &self.behaviour.executions) {
            ("PutItem" | "TransactWriteItems", _) => {
                self.acceptance_bytes.store(body.len(), Ordering::Relaxed);
            }
            ("StartExecution", Some(executions)) => {
                let request: Value = serde_json::from_slice(body).context("read StartExecution")?;
                let input = request["input"].as_str().context("an execution has an input")?;
                // An error means that nobody receives executions any more, which is normal at the end of a run.
                executions.send(Execution { started: Instant::now(), input: input.to_owned() }).ok();
            }
            _ => {}
        }
        Ok(())
    }
}

/// Returns the name of the operation that a request asks for. Services take it from a header, S3 from the method.
fn operation(head: &Head) -> &str {
    match (head.header("x-amz-target"), head.method()) {
        (Some(target), _) => target.rsplit('.').next().unwrap_or_default(),
        (None, "PUT") => "PutObject",
        (None, "HEAD") => "HeadObject",
        (None, "GET") => "GetObject",
        (None, method) => method,
    }
}

/// Returns the status, further headers and the body of the answer to an operation.
fn answer(operation: &str, request: &[u8]) -> (&'static str, &'static str, String) {
    // 2026-11-20T22:21:00Z
    const NOW: u32 = 1_795_213_260;
    let json = match operation {
        "GetSecretValue" => {
            json!({"SecretString": json!({"username": USERNAME, "password": PASSWORD}).to_string()})
        }
        "StartExecution" => {
            json!({"executionArn": "arn:aws:states:us-east-1:000000000000:execution:bench:1", "startDate": NOW})
        }
        "UpdateItem" => {
            let time = json!({"S": "2026-11-20T22:21:00.000Z"});
            json!({"Attributes": {"archivedAt": time, "completedAt": time}})
        }
        "SendMessage" => json!({"MessageId": "5fea7756-0ea4-451a-a703-a558b933e274"}),
        "GetItem" if contains(request, ACCESS_TABLE) => access_entry(),
        "GetItem" if contains(request, RECORD_TABLE) => record_item(),
        "Query" => json!({ "Items": index_entries() }),
        // Every write succeeds, and no item is found: every record is new, and so is its idempotency key.
        "PutItem" | "TransactWriteItems" | "GetItem" | "DeleteItem" => json!({}),
        "GetObject" => return ("404 Not Found", "", "<Error><Code>NoSuchKey</Code></Error>".to_owned()),
        // There is no object yet, and every new object is stored.
        "PutObject" => return ("200 OK", "etag: \"0\"\r\n", String::new()),
        _ => return ("404 Not Found", "", String::new()),
    };
    ("200 OK", "", json.to_string())
}

/// Returns the answer to a look-up of a caller: a producer that may write records of every source system.
fn access_entry() -> Value {
    json!({"Item": {
        "credential": {"S": "api-key:bench"},
        "principal": {"S": "bench"},
        "role": {"S": "producer"},
        "sources": {"L": [{"S": "*"}]},
        "addedAt": {"S": "2026-11-20T22:21:00.000Z"},
    }})
}

/// Returns the answer to a look-up of a record: a completed one.
fn record_item() -> Value {
    let mut item = serde_json::to_value(samples::message(b"payload")).expect("a message serializes");
    item["status"] = "COMPLETED".into();
    json!({"Item": attribute(&item)["M"]})
}

/// Returns the entries of a partition of an index of records, newest first: more than the sixteenth part of a page.
fn index_entries() -> Vec<Value> {
    let entry = |second: u32| {
        let text = |value: String| json!({ "S": value });
        json!({
            "messageID": text(format!("019e1f4b-6c{second:02}-7abc-8def-0123456789ab")),
            "receivedAt": text(format!("2026-11-20T22:21:{second:02}.000Z")),
            "status": text("COMPLETED".to_owned()),
            "sourceSystemID": text("loans".to_owned()),
            "sourceTransactionID": text(format!("transaction-{second}")),
            "messageType": text("decision".to_owned()),
        })
    };
    (0..10).rev().map(entry).collect()
}

/// Returns a JSON value in DynamoDB's own JSON.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(flag) => json!({"BOOL": flag}),
        Value::Number(number) => json!({"N": number.to_string()}),
        Value::String(text) => json!({"S": text}),
        Value::Array(values) => json!({"L": values.iter().map(attribute).collect::<Vec<_>>()}),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), attribute(value)));
            json!({"M": fields.collect::<serde_json::Map<_, _>>()})
        }
    }
}

fn contains(request: &[u8], text: &str) -> bool {
    request.windows(text.len()).any(|part| part == text.as_bytes())
}
