//! `custody send`: sends files as records. A small file goes in one request, a large one is uploaded.
//!
//! The idempotency key derives from the content and the metadata, so that a command that is run again within a day continues where it
//! broke off, and makes no second record.

mod input;
mod upload;

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use clap::Args;
use custody_core::{clock::Timestamp, digest::Sha256, receipt::Receipt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::input::Input;
use super::{ApiClient, ApiOptions, ApiRequest, format_bytes, parse_pair};
use crate::{CommandOutcome, output::Output};

/// The size of the largest payload that is sent in one request, in bytes: base64 and the envelope grow it by a third, and a request
/// may have 6 MB.
const MAX_IN_ONE_REQUEST: u64 = 4_000_000;

#[derive(Args, Clone)]
pub(crate) struct Options {
    /// Files to send; `-` for the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Kind of the record, in the producer's terms (`messageType`).
    #[arg(long = "type", value_name = "TYPE")]
    message_type: String,
    /// Id of the system that sends the record (`sourceSystemID`).
    #[arg(long, value_name = "ID")]
    source: String,
    /// Id of the transaction that the record documents (`sourceTransactionID`). The default is the name of the file.
    #[arg(long, value_name = "ID")]
    transaction: Option<String>,
    /// Date and time of the record (`dateTime`), as RFC 3339. The default is when the file was changed last.
    #[arg(long, value_parser = parse_date_time, value_name = "TIME")]
    time: Option<Timestamp>,
    /// Further metadata; may be repeated.
    #[arg(long = "meta", value_parser = parse_pair, value_name = "NAME=VALUE")]
    metadata: Vec<(String, String)>,
    /// Media type of the payload. The default follows from the name of the file.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Idempotency key. The default derives from content and metadata. Only for one file.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    api: ApiOptions,
}

/// A file and the metadata of its record.
struct Outgoing {
    input: Input,
    metadata: Map<String, Value>,
    content_type: String,
    key: String,
}

/// Output of `custody send` about one file.
#[derive(Debug, Serialize)]
struct Sent {
    file: String,
    receipt: Receipt,
    /// Whether the receipt repeats that of an earlier request.
    replayed: bool,
}

pub(crate) async fn run(output: Output, options: Options) -> anyhow::Result<CommandOutcome> {
    if options.files.len() > 1 && (options.key.is_some() || options.transaction.is_some()) {
        anyhow::bail!("--key and --transaction are of one record; send the files with a command each");
    }
    if options.files.iter().any(|file| file == "-") && options.key.is_none() && options.time.is_none() {
        anyhow::bail!(
            "the standard input has no time of its own, so a second run would make a second record; name the record with --key, or \
             its time with --time"
        );
    }
    let client = ApiClient::new(options.api.clone())?;
    let mut sent = Vec::new();
    let result = send_all(&client, output, &options, &mut sent).await;
    // The receipts of the files before a failure are shown, too.
    output.print(&sent, |sent| {
        if !sent.is_empty() {
            eprintln!(
                "`custody list --source {}` shows their states; `custody get ID -o FILE` downloads a payload.",
                options.source
            );
        }
    })?;
    result.map(|()| CommandOutcome::Complete)
}

async fn send_all(
    client: &ApiClient,
    output: Output,
    options: &Options,
    sent: &mut Vec<Sent>,
) -> anyhow::Result<()> {
    for file in &options.files {
        let outgoing = Outgoing::new(file, options).await.with_context(|| format!("read {file}"))?;
        let (receipt, replayed) = outgoing.send(client).await.with_context(|| format!("send {file}"))?;
        if !output.json {
            let Receipt { message_id, durability, payload, .. } = &receipt;
            let size = format_bytes(payload.size_bytes);
            let note = if replayed { "  (sent before)" } else { "" };
            println!("{message_id}  {durability}  {size}  {file}{note}");
        }
        sent.push(Sent { file: file.clone(), receipt, replayed });
    }
    Ok(())
}

fn parse_date_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "expected an RFC 3339 time, such as 2026-01-31T09:30:00Z".to_owned())
}

impl Outgoing {
    async fn new(file: &str, options: &Options) -> anyhow::Result<Self> {
        let input = Input::read(file).await?;
        let content_type = options.content_type.clone().unwrap_or_else(|| input.guessed_type());
        let mut metadata = Map::new();
        let transaction = options.transaction.clone().unwrap_or_else(|| input.name());
        metadata.insert("messageType".to_owned(), json!(options.message_type));
        metadata.insert("sourceSystemID".to_owned(), json!(options.source));
        metadata.insert("sourceTransactionID".to_owned(), json!(transaction));
        metadata.insert("dateTime".to_owned(), json!(options.time.unwrap_or(input.changed_at)));
        for (name, value) in &options.metadata {
            metadata.insert(name.clone(), json!(value));
        }
        let identity = json!([metadata, content_type, input.sha256]).to_string();
        let key = options
            .key
            .clone()
            .unwrap_or_else(|| format!("custody-send-{}", Sha256::of(identity.as_bytes())));
        Ok(Self { input, metadata, content_type, key })
    }

    /// Sends the record. Returns its receipt, and whether it repeats an earlier one.
    async fn send(self, client: &ApiClient) -> anyhow::Result<(Receipt, bool)> {
        let is_event = self.metadata.keys().skip(4).all(|name| is_attribute(name));
        if self.input.size_bytes > MAX_IN_ONE_REQUEST || !is_event {
            return upload::send(client, self).await;
        }
        let body = self.cloud_event()?;
        let headers =
            [("content-type", "application/cloudevents+json"), ("idempotency-key", self.key.as_str())];
        let answer = client.send(&ApiRequest::post("ingestMessage", &headers, body)).await?;
        Ok((answer.json()?, answer.replayed))
    }

    /// Returns a CloudEvent with the payload. This form keeps the media type and any bytes.
    fn cloud_event(&self) -> anyhow::Result<String> {
        let mut event = Map::from_iter([("specversion".to_owned(), json!("1.0"))]);
        for (name, value) in &self.metadata {
            let attribute = match name.as_str() {
                "messageType" => "type",
                "sourceSystemID" => "source",
                "sourceTransactionID" => "id",
                "dateTime" => "time",
                other => other,
            };
            event.insert(attribute.to_owned(), value.clone());
        }
        event.insert("datacontenttype".to_owned(), json!(self.content_type));
        event.insert("data_base64".to_owned(), json!(self.input.base64()?));
        Ok(Value::Object(event).to_string())
    }
}

/// Whether a CloudEvent may have an attribute of this name.
fn is_attribute(name: &str) -> bool {
    !["data", "datacontenttype", "specversion", "type", "source", "id", "time"].contains(&name)
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Creates a progress bar, which is drawn on a terminal only.
pub(super) fn progress_bar(bytes: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
