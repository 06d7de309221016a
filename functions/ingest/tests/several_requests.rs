//! Tests of several concurrent requests in one process, as on Lambda Managed Instances.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{collections::BTreeSet, path::PathBuf, process::Stdio, sync::mpsc::channel, time::Duration};

use custody_bench::{
    aws_stub::Behaviour,
    deployment::Deployment,
    function::{Function, Program},
    latencies::Latencies,
    redis_link::RedisLink,
    runtime_api::{Invocation, Response},
};
use custody_core::{digest::Sha256, receipt::Receipt};
use serde_json::json;

/// Starts the ingest program that was built for this test, with `concurrency` requests at once.
fn ingest(deployment: &Deployment, concurrency: u32, variables: &[(&str, String)]) -> Function {
    let file = PathBuf::from(env!("CARGO_BIN_EXE_ingest"));
    let program = Program { name: "ingest".to_owned(), file, arguments: Vec::new() };
    let concurrency = ("AWS_LAMBDA_MAX_CONCURRENCY", concurrency.to_string());
    let variables = [&[concurrency], variables].concat();
    Function::start_with(&program, deployment, &variables, Stdio::inherit()).unwrap()
}

/// Creates a request event and its payload of `size` bytes. The payload depends on `number`, so that payloads differ.
fn request(number: usize, size: usize) -> (Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = format!("payload {number} ").into_bytes().into_iter().cycle().take(size).collect();
    let body = json!({
        "messageMetaData": {
            "messageType": "sample",
            "sourceSystemID": "tests",
            "sourceTransactionID": format!("transaction-{number}"),
            "dateTime": "2026-11-20T22:21:00Z",
        },
        "messagePayload": base64_simd::STANDARD.encode_to_string(&payload),
        "payloadEncoding": "base64",
    });
    let event = json!({
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json", "Idempotency-Key": number.is_multiple_of(2).then(|| format!("key-{number}"))},
        "requestContext": {"requestId": format!("r-{number}"), "identity": {"apiKeyId": "k-1"}},
        "body": body.to_string(),
    });
    (event.to_string().into_bytes(), payload)
}

fn invocation(event: &[u8]) -> Invocation<'_> {
    Invocation { event, payload_bytes: 0, acceptance_bytes: 0 }
}

/// Returns the receipt in a response.
fn receipt(response: &Response) -> Receipt {
    let answer: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

fn cached(redis: &mut RedisLink, receipt: &Receipt) -> Vec<u8> {
    let mut payload = Vec::new();
    redis.send(&[b"GET", receipt.message_id.cache_key().as_bytes()]).unwrap();
    redis.receive(&mut payload).unwrap();
    payload
}

#[test]
fn each_of_many_requests_at_once_gets_its_own_receipt() {
    let deployment = Deployment::start(Latencies::default()).unwrap();
    let mut redis = deployment.redis().unwrap();
    for concurrency in [1, 4, 16] {
        let (sender, executions) = channel();
        let stub =
            deployment.another_stub(Behaviour { executions: Some(sender), ..Behaviour::default() }).unwrap();
        let mut function = ingest(&deployment, concurrency, &[("AWS_ENDPOINT_URL", stub.endpoint())]);
        // The sizes cover payloads that are read in one piece, payloads that are decoded in place, and payloads that
        // fill a socket's buffer many times.
        let sizes = [10, 5_000, 100_000, 1_000_000, 50];
        let requests: Vec<_> = (0..60).map(|number| request(number, sizes[number % sizes.len()])).collect();
        let invocations: Vec<_> = requests.iter().map(|(event, _)| invocation(event)).collect();
        let responses = function.invoke_all(&invocations).unwrap();
        let mut ids = BTreeSet::new();
        for ((_, payload), response) in requests.iter().zip(&responses) {
            let receipt = receipt(response);
            assert_eq!(receipt.payload.sha256, Sha256::of(payload));
            assert!(cached(&mut redis, &receipt) == *payload, "{concurrency} at once");
            assert!(ids.insert(receipt.message_id.to_string()), "each record must have its own id");
        }
        // The work after the response is done for every response.
        let started = (0..ids.len()).map(|_| {
            let execution =
                executions.recv_timeout(Duration::from_secs(30)).expect("every record is started");
            let message: serde_json::Value = serde_json::from_str(&execution.input).unwrap();
            message["messageID"].as_str().unwrap().to_owned()
        });
        assert_eq!(started.collect::<BTreeSet<_>>(), ids);
    }
}

#[test]
fn a_request_that_waits_holds_up_no_other() {
    let deployment = Deployment::start(Latencies::default()).unwrap();
    let slow = Some(("transaction-0".to_owned(), Duration::from_secs(2)));
    let stub = deployment.another_stub(Behaviour { slow, ..Behaviour::default() }).unwrap();
    let mut function = ingest(&deployment, 4, &[("AWS_ENDPOINT_URL", stub.endpoint())]);
    // The first request has a large payload, and waits for its acceptance until the time limit of the table.
    let requests: Vec<_> =
        (0..40).map(|number| request(number, if number == 0 { 4_000_000 } else { 5_000 })).collect();
    let invocations: Vec<_> = requests.iter().map(|(event, _)| invocation(event)).collect();
    let responses = function.invoke_all(&invocations).unwrap();
    let first = responses[0].posted;
    assert!(first - responses[0].sent >= Duration::from_secs(1), "the first request must be slow");
    for (number, response) in responses.iter().enumerate().skip(1) {
        receipt(response);
        assert!(response.posted < first, "request {number} waited for the slow one");
    }
}
