//! `custody get`: downloads the payload of a record, and verifies its digest.

use std::{
    io::{IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use custody_core::{
    digest::{Hasher, Sha256},
    record_id::RecordId,
};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{ApiClient, ApiOptions, ApiRequest, format_bytes, not_found};
use crate::{CommandOutcome, output::Output};

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// The record's messageID.
    id: RecordId,
    /// File to write; `-` for the standard output. The default is a file that is named after the record.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    api: ApiOptions,
}

/// A link to a payload, as the API answers it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    url: String,
    sha256: Sha256,
    size: u64,
    content_type: String,
}

/// Output of `custody get`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Downloaded {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    file: PathBuf,
    sha256: Sha256,
    size: u64,
    content_type: String,
}

pub(crate) async fn run(output: Output, options: Options) -> anyhow::Result<CommandOutcome> {
    let client = ApiClient::new(options.api)?;
    let id = options.id;
    let path = format!("messages/{id}/payload");
    let link: Link = match client.send(&ApiRequest::get(&path, &[("accept", "application/json")])).await {
        Ok(answer) => answer.json()?,
        Err(error) => {
            output.complain(&not_found(error)?);
            return Ok(CommandOutcome::NotFound);
        }
    };
    let file = options.output.unwrap_or_else(|| PathBuf::from(id.to_string()));
    if file == Path::new("-") {
        if std::io::stdout().is_terminal() {
            bail!(
                "the payload may not be text; send the standard output to a file or a program, or name a file with -o"
            );
        }
        download(&client, &link, &mut std::io::stdout().lock()).await?;
        return Ok(CommandOutcome::Complete);
    }
    // The file gets its name only after its digest was verified.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut unverified =
        NamedTempFile::new_in(folder).with_context(|| format!("create a file in {}", folder.display()))?;
    download(&client, &link, &mut unverified).await?;
    unverified.persist(&file).with_context(|| format!("write {}", file.display()))?;
    let Link { sha256, size, content_type, .. } = link;
    let done = Downloaded { message_id: id, file, sha256, size, content_type };
    output.print(&done, |done| {
        println!("{}  {}  {}", done.file.display(), format_bytes(done.size), done.content_type);
        println!("The payload has the digest of the receipt: SHA-256 {}", done.sha256);
    })?;
    Ok(CommandOutcome::Complete)
}

/// Writes the payload, and fails unless its size and digest are those of the record.
async fn download(client: &ApiClient, link: &Link, file: &mut impl Write) -> anyhow::Result<()> {
    let mut answer = client.http.get(&link.url).send().await.context("download the payload")?;
    if !answer.status().is_success() {
        bail!("the store of payloads answered {}; run the command again, for a new link", answer.status());
    }
    let (mut hasher, mut size) = (Hasher::default(), 0);
    let progress = super::send::progress_bar(link.size, "downloading");
    while let Some(piece) = answer.chunk().await.context("download the payload; run the command again")? {
        hasher.update(&piece);
        size += piece.len() as u64;
        progress.inc(piece.len() as u64);
        file.write_all(&piece).context("write the payload")?;
    }
    file.flush().context("write the payload")?;
    progress.finish_and_clear();
    let found = hasher.finish();
    if (found, size) != (link.sha256, link.size) {
        bail!(
            "the payload that arrived has {size} bytes with SHA-256 {found}, and the record has {} bytes with SHA-256 {}; \
             do not use it, and tell an operator",
            link.size,
            link.sha256
        );
    }
    Ok(())
}
