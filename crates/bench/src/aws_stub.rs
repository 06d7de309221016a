//! The rest of AWS: takes every call that the functions make, and answers it at once.
//!
//! It keeps nothing and checks nothing. What the functions do with S3, DynamoDB and Step Functions is tested on the local
//! stack; here, the services must only cost what their protocol costs a client: TLS, HTTP, and the bytes.

use std::{
    io::{BufReader, Write as _},
    net::TcpListener,
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use custody_test_support::{certificates::Certificates, redis_server::PASSWORD};
use serde_json::json;

use crate::{
    http::{self, Head},
    tls,
};

/// The stub, serving on a port of its own as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub struct AwsStub {
    /// The port, on `localhost`.
    pub port: u16,
}

impl AwsStub {
    /// Starts it.
    pub fn start(certificates: &Certificates) -> anyhow::Result<Self> {
        let config = tls::server_config(&certificates.file("cert.pem"), &certificates.file("key.pem"))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("bind the AWS stub")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                thread::spawn(move || {
                    if let Err(error) = tls::accept(config, connection).and_then(serve) {
                        eprintln!("the AWS stub ended a connection: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port })
    }
}

fn serve(stream: tls::ServerStream) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut body = Vec::new();
    while let Some(head) = http::read_head(&mut reader)? {
        if head.header("expect").is_some() {
            reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            reader.get_mut().flush()?;
        }
        http::read_body(&mut reader, &head, &mut body)?;
        let (status, headers, answer) = answer(&head);
        http::respond(reader.get_mut(), status, headers, &answer)?;
    }
    Ok(())
}

/// Status, further headers and body of the answer to a request.
fn answer(head: &Head) -> (&'static str, &'static str, String) {
    // 2026-11-20T22:21:00Z
    const NOW: u32 = 1_795_213_260;
    let json = match head.header("x-amz-target") {
        Some("secretsmanager.GetSecretValue") => {
            json!({"SecretString": json!({"password": PASSWORD}).to_string()})
        }
        Some("AWSStepFunctions.StartExecution") => {
            json!({"executionArn": "arn:aws:states:us-east-1:000000000000:execution:bench:1", "startDate": NOW})
        }
        Some("DynamoDB_20120810.UpdateItem") => {
            let time = json!({"S": "2026-11-20T22:21:00.000Z"});
            json!({"Attributes": {"archivedAt": time, "completedAt": time}})
        }
        Some(_) => json!({}),
        // S3 has no targets. There is no object yet, and every new one is taken.
        None if head.method() == "PUT" => return ("200 OK", "etag: \"0\"\r\n", String::new()),
        None => return ("404 Not Found", "", String::new()),
    };
    ("200 OK", "", json.to_string())
}
