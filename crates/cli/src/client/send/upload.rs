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

/// The number of requests to complete an upload. The API answers after 15 seconds, so they wait for about an hour.
const MAX_COMPLETIONS: u32 = 180;

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
            Ok(status) if status.is_success() || status == StatusCode::PRECONDITION_FAILED => return Ok(()),
            Ok(status) => anyhow::anyhow!("the store of uploads answered {status}"),
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

async fn put(client: &ApiClient, outgoing: &Outgoing, link: &UploadLink) -> anyhow::Result<StatusCode> {
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
    drop(answer.bytes().await);
    progress.finish_and_clear();
    Ok(status)
}

/// Completes an upload. The copy of a large payload takes longer than a request may.
async fn complete(client: &ApiClient, id: RecordId) -> anyhow::Result<(Receipt, bool)> {
    let link = format!("uploads/{id}/complete");
    for _ in 0..MAX_COMPLETIONS {
        let answer = client.send(&ApiRequest::post(&link, &[], Bytes::new())).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Ok((answer.json()?, answer.replayed));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    bail!("upload {id} is not completed yet; the same command continues it for a day")
}
