//! `custody list`: lists records through the API, newest first, as producers and auditors may see them.

use clap::Args;
use custody_core::clock::Timestamp;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiClient, ApiOptions, ApiRequest};
use crate::{
    CommandOutcome,
    arguments::parse_time,
    find::By,
    output::{Output, format_count, table},
};

/// The largest page that the API answers with.
const PAGE: usize = 100;

#[derive(Args, Clone)]
pub(crate) struct Options {
    #[command(flatten)]
    by: By,
    /// Show only records received at or after this time: RFC 3339, or a duration before now (`2h`, `30min`, `1d`).
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Show only records received at or before this time, in the same format.
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Show only records with this status: RECEIVED, COMPLETED or FAILED.
    #[arg(long)]
    status: Option<String>,
    /// Maximum number of records to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    api: ApiOptions,
}

/// A page of records, as the API answers it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    records: Vec<Value>,
    next_cursor: Option<String>,
}

/// Output of `custody list`.
#[derive(Debug, Default, Serialize)]
struct Listed {
    /// The records, newest first.
    records: Vec<Value>,
    /// Whether older records match too.
    truncated: bool,
}

pub(crate) async fn run(output: Output, options: Options) -> anyhow::Result<CommandOutcome> {
    let client = ApiClient::new(options.api.clone())?;
    let mut listed = Listed::default();
    let mut cursor = None;
    loop {
        let link = link(&options, options.limit.saturating_sub(listed.records.len()), cursor.as_deref());
        let page: Page = client.send(&ApiRequest::get(&link, &[])).await?.json()?;
        listed.records.extend(page.records);
        cursor = page.next_cursor;
        if cursor.is_none() || listed.records.len() >= options.limit {
            break;
        }
    }
    listed.truncated = cursor.is_some() || listed.records.len() > options.limit;
    listed.records.truncate(options.limit);
    output.print(&listed, |listed| {
        let mut rows = table(&["RECEIVED", "ID", "STATUS", "TYPE", "SOURCE", "TRANSACTION"]);
        let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
        for record in &listed.records {
            let columns =
                ["receivedAt", "messageID", "status", "messageType", "sourceSystemID", "sourceTransactionID"];
            rows.add_row(columns.map(|name| text(record, name)));
        }
        println!("{rows}");
        let count = format_count(listed.records.len(), false, "record", "records");
        let more = if listed.truncated { "; older ones match too, --limit shows more" } else { "" };
        println!("{count}{more}");
    })?;
    Ok(CommandOutcome::Complete)
}

/// Returns the link to a page.
fn link(options: &Options, limit: usize, cursor: Option<&str>) -> String {
    // The host is not part of the link: only the encoding of the parameters is used.
    let mut url = Url::parse("http://api/messages").expect("the URL is valid");
    let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let parameters = [
        ("sourceSystemID", options.by.source.clone()),
        ("sourceTransactionID", options.by.transaction.clone()),
        ("from", text(options.since)),
        ("to", text(options.until)),
        ("status", options.status.clone()),
        ("limit", Some(limit.clamp(1, PAGE).to_string())),
        ("cursor", cursor.map(str::to_owned)),
    ];
    for (name, value) in parameters {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, &value);
        }
    }
    format!("messages?{}", url.query().unwrap_or_default())
}
