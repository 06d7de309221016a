//! `custody find`: lists the records of a source system, or of one of its transactions.

use clap::Args;
use custody_aws::{FoundRecords, Lookup, TimeRange};
use custody_core::clock::Timestamp;

use crate::{
    CommandOutcome,
    arguments::parse_time,
    deployment::Deployment,
    output::{Output, format_count, table},
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
    /// Maximum number of records to show.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct By {
    /// Id of the source system (`sourceSystemID`).
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Id of the transaction in its source system (`sourceTransactionID`).
    #[arg(long, value_name = "ID")]
    transaction: Option<String>,
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
    let found = deployment.index()?.find(&lookup, range, options.limit).await?;
    output.print(&found, print)?;
    Ok(if found.records.is_empty() { CommandOutcome::NotFound } else { CommandOutcome::Complete })
}

fn print(found: &FoundRecords) {
    let mut lines = table(&["ID", "RECEIVED", "STATUS", "SOURCE", "TRANSACTION", "TYPE"]);
    for record in &found.records {
        let received_at = record.received_at.to_string();
        let transaction = record.source_transaction_id.as_deref().unwrap_or("-");
        lines.add_row([
            &*record.message_id.to_string(),
            &received_at,
            &record.status,
            &record.source_system_id,
            transaction,
            &record.message_type,
        ]);
    }
    let count = format_count(found.records.len(), false, "record", "records");
    let more = if found.truncated { "; --limit shows older ones, too" } else { "" };
    println!("{lines}\n{count}{more}");
}
