//! The quick start in Rust of `docs/quickstart.md`, with the page's program as it stands there.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example for producers")]

use std::time::Duration;

use serde_json::{Value, json};

async fn call(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let request = request.header("x-api-key", std::env::var("CUSTODY_API_KEY")?);
    let answer = request.header("accept", "application/json").send().await?;
    let (is_success, body) = (answer.status().is_success(), answer.text().await?);
    anyhow::ensure!(is_success, "{body}");
    Ok(serde_json::from_str(&body)?)
}

async fn send_and_read_back(http: &reqwest::Client) -> anyhow::Result<String> {
    let url = std::env::var("CUSTODY_URL")?;
    let envelope = json!({
        "messageMetaData": {"messageType": "note", "sourceSystemID": "quickstart", "dateTime": "2026-01-31T09:30:00Z"},
        "messagePayload": "the input of a decision",
        "payloadEncoding": "utf8",
    });
    let send = http.post(&url).header("content-type", "application/json").header("idempotency-key", "rs-1");
    let receipt = call(send.body(envelope.to_string())).await?;
    let record = format!(
        "{}/messages/{}",
        url.trim_end_matches("/ingestMessage"),
        receipt["messageID"].as_str().unwrap_or_default()
    );
    while call(http.get(&record)).await?["status"] == "RECEIVED" {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let link = call(http.get(format!("{record}/payload"))).await?;
    let copy = http.get(link["url"].as_str().unwrap_or_default()).send().await?.text().await?;
    anyhow::ensure!(copy == "the input of a decision", "other bytes");
    Ok(format!("record {} has the bytes that were sent", receipt["messageID"].as_str().unwrap_or_default()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    println!("{}", send_and_read_back(&reqwest::Client::new()).await?);
    Ok(())
}
