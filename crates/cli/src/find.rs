//! `custody find`: lists the records of a source system, or of one of its transactions.

use clap::Args;
use custody_core::{
    clock::Timestamp,
    ports::RecordQueries as _,
    record_query::{IndexedRecord, Lookup, PageRequest, RecordStatus, TimeRange},
};
use serde::Serialize;

use crate::{
    CommandOutcome,
    arguments::parse_time,
    deployment::Deployment,
    output::{Output, format_count, table_with_id},
};

#[derive(Args, Clone, Debug)]
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
    #[arg(long, value_parser = parse_status)]
    status: Option<RecordStatus>,
    /// Maximum number of records to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Output of `custody find`.
#[derive(Debug, Default, Serialize)]
struct FoundRecords {
    /// The records, newest first.
    records: Vec<IndexedRecord>,
    /// Whether older records match too.
    truncated: bool,
}

/// The attribute that records are looked up by. Exactly one is given.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct By {
    /// Id of the source system (`sourceSystemID`).
    #[arg(long, value_name = "ID")]
    pub(crate) source: Option<String>,
    /// Id of the transaction in its source system (`sourceTransactionID`).
    #[arg(long, value_name = "ID")]
    pub(crate) transaction: Option<String>,
}

/// Reads a status in any case.
pub(crate) fn parse_status(text: &str) -> Result<RecordStatus, String> {
    text.to_uppercase()
        .parse()
        .map_err(|_| "there is no such status; known are RECEIVED, COMPLETED, FAILED".to_owned())
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let lookup = match (options.by.source, options.by.transaction) {
        (Some(source), _) => Lookup::Source(source),
        (None, transaction) => Lookup::Transaction(transaction.unwrap_or_default()),
    };
    let range = TimeRange { from: options.since, to: options.until };
    let mut request = PageRequest {
        lookup,
        range,
        status: options.status,
        sources: None,
        after: None,
        limit: options.limit.max(1),
    };
    let index = deployment.index()?;
    let mut found = FoundRecords::default();
    // A page may have fewer records than its limit although older records match.
    loop {
        let page = index.page(&request).await?;
        found.records.extend(page.records);
        found.truncated = page.next.is_some();
        request.limit = options.limit.saturating_sub(found.records.len());
        request.after = page.next;
        if !found.truncated || request.limit == 0 {
            break;
        }
    }
    output.print(&found, print)?;
    Ok(if found.records.is_empty() { CommandOutcome::NotFound } else { CommandOutcome::Complete })
}

fn print(found: &FoundRecords) {
    let mut lines = table_with_id(&["ID", "RECEIVED", "STATUS", "SOURCE", "TRANSACTION", "TYPE"]);
    for record in &found.records {
        let received_at = record.received_at.to_string();
        let transaction = record.source_transaction_id.as_deref().unwrap_or("-");
        lines.add_row([
            &*record.message_id.to_string(),
            &received_at,
            &record.status.to_string(),
            &record.source_system_id,
            transaction,
            &record.message_type,
        ]);
    }
    let count = format_count(found.records.len(), false, "record", "records");
    let more = if found.truncated { "; --limit shows older ones, too" } else { "" };
    println!("{lines}\n{count}{more}");
}
