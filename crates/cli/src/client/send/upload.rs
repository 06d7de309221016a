//! The upload of a large file: begin, store, complete.

use std::{collections::BTreeMap, io::Read as _, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use custody_core::{ports::UploadLink, receipt::Receipt, record_id::RecordId, upload::UploadStatus};
use futures_util::stream;
use reqwest::{Body, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Outgoing, progress_bar};
use crate::client::{ApiClient, ApiRequest};

/// The number of tries to store the payload.
const TRIES: u32 = 5;

/// The number of requests to complete an upload. Together with the looks between them, they wait for more than an hour.
const MAX_COMPLETIONS: u32 = 8;

/// The number of looks at an upload, five seconds apart, after a request to complete it: a little less than a copy may take.
const LOOKS: u32 = 120;

const PIECE: usize = 256 << 10;

/// The answer about an upload.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    status: UploadStatus,
    upload: Option<UploadLink>,
    receipt: Option<Receipt>,
}

/// Uploads a file. An upload that an earlier command has begun is continued.
pub(super) async fn send(client: &ApiClient, outgoing: Outgoing) -> anyhow::Result<(Receipt, bool)> {
    let body = json!({
        "messageMetaData": outgoing.metadata,
        "payload": {
            "size": outgoing.input.size_bytes,
            "sha256": outgoing.input.sha256,
            "contentType": outgoing.content_type,
        },
    });
    let headers = [("content-type", "application/json"), ("idempotency-key", outgoing.key.as_str())];
    let begun: Begun = client.send(&ApiRequest::post("uploads", &headers, body.to_string())).await?.json()?;
    let id = begun.message_id;
    match begun {
        Begun { receipt: Some(receipt), .. } => return Ok((receipt, true)),
        Begun { status: UploadStatus::Pending, upload: Some(link), .. } => {
            store(client, &outgoing, id, link).await?;
        }
        _ => {}
    }
    complete(client, id).await
}

/// Stores the payload. A link works for an hour, so each further try has a new one.
async fn store(
    client: &ApiClient,
    outgoing: &Outgoing,
    id: RecordId,
    first: UploadLink,
) -> anyhow::Result<()> {
    let mut link = first;
    for tried in 1.. {
        let failure = match put(client, outgoing, &link).await {
            // 412: an earlier request whose answer was lost has stored the payload.
            Ok((status, _)) if status.is_success() || status == StatusCode::PRECONDITION_FAILED => {
                return Ok(());
            }
            Ok((status, text)) => {
                let failure = anyhow::anyhow!("the store of uploads answered {status}: {text}");
                // A link that has expired is refused with 403, and a new one helps.
                if status.is_client_error() && status != StatusCode::FORBIDDEN {
                    return Err(failure);
                }
                failure
            }
            Err(error) => error,
        };
        if tried == TRIES {
            return Err(
                failure.context("store the payload; the same command continues this upload for a day")
            );
        }
        tokio::time::sleep(Duration::from_secs(1 << tried)).await;
        let begun: Begun = client.send(&ApiRequest::get(&format!("uploads/{id}"), &[])).await?.json()?;
        match begun.upload {
            Some(new) => link = new,
            None => return Ok(()),
        }
    }
    Ok(())
}

async fn put(
    client: &ApiClient,
    outgoing: &Outgoing,
    link: &UploadLink,
) -> anyhow::Result<(StatusCode, String)> {
    let progress = progress_bar(outgoing.input.size_bytes, "uploading");
    let (file, bar) = (outgoing.input.open()?, progress.clone());
    let pieces = stream::try_unfold(file, move |mut file| {
        let bar = bar.clone();
        async move {
            let read = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; PIECE];
                let length = file.read(&mut piece)?;
                piece.truncate(length);
                Ok::<_, std::io::Error>((piece, file))
            });
            let (piece, file) = read.await.map_err(std::io::Error::other)??;
            bar.inc(piece.len() as u64);
            Ok::<_, std::io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
        }
    });
    let mut headers: BTreeMap<&str, String> =
        link.headers.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    headers.insert("content-length", outgoing.input.size_bytes.to_string());
    let mut request = client.http.put(&link.url).body(Body::wrap_stream(pieces));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.context("store the payload")?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default().chars().take(300).collect();
    progress.finish_and_clear();
    Ok((status, text))
}

/// Completes an upload. The copy of a large payload goes on after the answer, so the tool then looks at the upload, and asks again
/// only now and then: each request to complete would begin another copy.
async fn complete(client: &ApiClient, id: RecordId) -> anyhow::Result<(Receipt, bool)> {
    let (complete, show) = (format!("uploads/{id}/complete"), format!("uploads/{id}"));
    for _ in 0..MAX_COMPLETIONS {
        let answer = client.send(&ApiRequest::post(&complete, &[], Bytes::new())).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Ok((answer.json()?, answer.replayed));
        }
        for _ in 0..LOOKS {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let shown: Begun = client.send(&ApiRequest::get(&show, &[])).await?.json()?;
            if let Some(receipt) = shown.receipt {
                return Ok((receipt, false));
            }
        }
    }
    bail!("upload {id} is not completed yet; the same command continues it for a day")
}
