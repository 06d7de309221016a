//! `custody fsck`: reports stuck records, from the open records; with `--full`, also checks that archive and record
//! table agree on every record.

mod audit;
mod compare;
mod findings;
mod stuck;

use std::time::Duration;

use clap::Args;
use custody_core::clock::{Clock as _, SystemClock, Timestamp};
use serde::Serialize;

use self::{audit::Audited, findings::Findings, stuck::Open};
use crate::{
    CommandOutcome,
    arguments::{parse_duration, parse_time},
    deployment::Deployment,
    output::{Output, format_count, table},
    progress::Progress,
    survey::MAX_COUNTED,
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How long a record may take before it counts as stuck: `90s`, `10min`, `2h`.
    #[arg(long, default_value = "10min", value_parser = parse_duration, value_name = "TIME")]
    stuck_after: Duration,
    /// Maximum number of acceptance markers, and of open records of each kind, to check.
    #[arg(long, default_value_t = MAX_COUNTED, value_name = "N")]
    limit: usize,
    /// Also compare the whole archive with the whole record table. It takes hours for millions of records.
    #[arg(long)]
    full: bool,
    /// With --full: compare only records received at or after this time: RFC 3339, or a duration before now (`2h`,
    /// `1d`).
    #[arg(long, requires = "full", value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// With --full: maximum number of look-ups per second.
    #[arg(
        long,
        requires = "full",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=5000),
        value_name = "N"
    )]
    max_per_second: u32,
    /// With --full: read and hash every archived object, instead of comparing the checksum that S3 stores.
    #[arg(long, requires = "full")]
    read: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    open: Open,
    /// Counts of what the audit compared; null without `--full`.
    audit: Option<Audited>,
    #[serde(flatten)]
    findings: Findings,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let progress = Progress::new();
    let mut findings = Findings::default();
    let open = stuck::find(deployment, options, SystemClock.now(), &progress, &mut findings).await?;
    let audit = if options.full {
        Some(audit::run(deployment, options, SystemClock.now(), &progress, &mut findings).await?)
    } else {
        None
    };
    progress.done();
    // An open record that was not checked may be stuck, so the check is complete only without such records.
    let is_complete = findings.is_empty() && !open.at_least();
    let report = Report { open, audit, findings };
    output.print(&report, Report::print)?;
    Ok(if is_complete { CommandOutcome::Complete } else { CommandOutcome::Partial })
}

impl Report {
    fn print(&self) {
        println!("{}", self.open.text());
        if let Some(audit) = &self.audit {
            println!("{}", audit.text());
        }
        if self.findings.is_empty() {
            println!("{}", if self.audit.is_some() { "Everything agrees." } else { "Nothing is stuck." });
            return;
        }
        let mut lines = table(&["DISAGREEMENT", "SUBJECT", ""]);
        for finding in self.findings.shown() {
            lines.add_row([finding.kind.into_str(), &finding.subject, &finding.detail]);
        }
        println!("{lines}");
        for (kind, count) in self.findings.counts() {
            println!("{count} {}", kind.into_str());
        }
        let (shown, all) = (self.findings.shown().len(), self.findings.count());
        let all_text = format_count(all, false, "disagreement", "disagreements");
        println!(
            "{all_text}{}",
            if shown < all { format!(", {shown} of them shown") } else { String::new() }
        );
    }
}
