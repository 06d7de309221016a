//! `custody rebuild`: makes missing items of the record table again, after the table was lost or restored to an earlier time.
//! The sources are the manifests in the archive, for completed records, and the evidence of discards in the failed bucket. The
//! items of open records need no help: their workflows write them.

mod evidence;
mod restore;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use clap::Args;
use custody_aws::{DynamoOpenRecords, DynamoTable, ObjectListing, S3AcceptanceMarkers, S3Archive};
use custody_core::{
    attempt::Attempt,
    clock::{Clock as _, SystemClock, Timestamp},
    error::{ErrorName, StageError},
    ports::{ItemState, RecordTable as _},
    record_id::RecordId,
    stored_names::MANIFEST_PREFIX,
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use self::{
    evidence::AllEvidence,
    restore::{Restored, Restorer},
};
use crate::{
    CommandOutcome,
    arguments::parse_time,
    deployment::Deployment,
    output::{Output, format_count, table},
    pace::{Pace, retry_transient},
    progress::Progress,
};

/// Number of records that are restored concurrently.
const CONCURRENCY: usize = 32;

/// Number of items in one read of the record table: DynamoDB's limit.
const BATCH: usize = 100;

/// Maximum number of listed problems.
const MAX_LISTED: usize = 1000;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Only report which items would be made.
    #[arg(long)]
    dry_run: bool,
    /// Consider only records received at or after this time: RFC 3339, or a duration before now (`2h`, `1d`).
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Maximum number of records per second that are looked up in all stores or made again.
    #[arg(
        long,
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=5000),
        value_name = "N"
    )]
    max_per_second: u32,
}

/// What was found and done, in numbers of records.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dry_run: bool,
    /// Records whose items were made again, or would be, as `COMPLETED`.
    completed: usize,
    /// Records whose items were made again, or would be, as discarded.
    discarded: usize,
    /// Records whose items need nothing.
    present: usize,
    /// Open records: their workflows write their items.
    open: usize,
    /// Number of all problems, of which the first are listed.
    problem_count: usize,
    /// The records among the problems.
    #[serde(skip)]
    not_restored: BTreeSet<RecordId>,
    /// The first problems: records whose items could not be made, and objects that are not of the expected format.
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    /// Id of the record, or key of an object that belongs to none.
    subject: String,
    detail: String,
}

struct Rebuild {
    options: Options,
    manifests: ObjectListing,
    table: DynamoTable,
    restorer: Restorer<S3Archive, DynamoOpenRecords, S3AcceptanceMarkers, DynamoTable>,
    pace: Pace,
    evidence: AllEvidence,
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    options: Options,
) -> anyhow::Result<CommandOutcome> {
    let progress = Progress::new();
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    progress.begin("discards");
    let evidence = evidence::read_all(deployment, &progress).await?;
    let is_complete = evidence.unreadable.is_empty();
    for (key, detail) in &evidence.unreadable {
        report.add_problem(key, detail);
    }
    if !is_complete {
        let why = "no item of a completed record was made: evidence of discards cannot be read, so any of them may have been discarded";
        report.add_problem(&"completed records", why);
    }
    let rebuild = Rebuild {
        options,
        manifests: deployment.manifest_listing()?,
        table: deployment.table()?,
        restorer: Restorer {
            archive: deployment.archive()?,
            open: deployment.open_records()?,
            markers: deployment.markers()?,
            table: deployment.table()?,
            now: SystemClock.now(),
            dry_run: options.dry_run,
        },
        pace: Pace::new(options.max_per_second),
        evidence,
    };
    if is_complete {
        progress.begin("manifests");
        rebuild.completed(&progress, &mut report).await.context("go through the manifests")?;
    }
    progress.begin("discarded records");
    rebuild.discarded(&progress, &mut report).await.context("go through the discarded records")?;
    progress.done();
    output.print(&report, Report::print)?;
    Ok(if report.problem_count == 0 { CommandOutcome::Complete } else { CommandOutcome::Partial })
}

impl Rebuild {
    /// Goes through the manifests, oldest record first.
    async fn completed(&self, progress: &Progress, report: &mut Report) -> anyhow::Result<()> {
        // Keys begin with the time, so a time is also a position in the list.
        let mut after =
            self.options.since.map(|since| format!("{MANIFEST_PREFIX}{}", since.format("%Y/%m/%d/%H/%M")));
        loop {
            let page = retry_transient(async || self.manifests.page(after.as_deref()).await).await?;
            // The newest attempt of each record.
            let mut attempts: BTreeMap<RecordId, Attempt> = BTreeMap::new();
            for object in &page.objects {
                match Attempt::of_manifest_key(&object.key) {
                    Some(attempt) if self.is_of_interest(attempt.record) => {
                        let newest = attempts.entry(attempt.record).or_insert(attempt);
                        *newest = (*newest).max(attempt);
                    }
                    Some(_) => {}
                    None => report.add_problem(&object.key, "the key is of no manifest"),
                }
            }
            // More manifests of the last record may be on the next page, which begins with this record then.
            let last = page.objects.last().and_then(|object| Attempt::of_manifest_key(&object.key));
            let again = last.filter(|last| page.truncated && attempts.keys().any(|id| *id != last.record));
            if let Some(last) = again {
                attempts.remove(&last.record);
            }
            let attempts: Vec<_> = attempts.into_values().collect();
            for batch in attempts.chunks(BATCH) {
                self.restore_completed(batch, report).await?;
                progress.advance(batch.len());
            }
            match page.objects.last() {
                Some(_) if let Some(again) = again => {
                    after = Some(format!("{MANIFEST_PREFIX}{}", again.record.archive_key()));
                }
                Some(last) if page.truncated => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn restore_completed(&self, batch: &[Attempt], report: &mut Report) -> anyhow::Result<()> {
        let ids: Vec<_> = batch.iter().map(|attempt| attempt.record).collect();
        let states = retry_transient(async || self.table.states(&ids).await).await?;
        let restores = batch.iter().map(|attempt| {
            let (state, evidence) =
                (states.get(&attempt.record), self.evidence.of_discards.get(&attempt.record));
            async move {
                if let Some(key) = self.evidence.without_decision.get(&attempt.record)
                    && !matches!(state, Some(ItemState::Completed(_)))
                {
                    let why =
                        format!("a discard of the record broke off before its decision was stored: {key}");
                    return (attempt.record, Ok(Restored::Impossible(why)));
                }
                if let Some(settled) = restore::settled_before(state, *attempt, evidence) {
                    return (attempt.record, Ok(settled));
                }
                self.pace.wait().await;
                let restored = retry_transient(async || self.restorer.completed(*attempt).await).await;
                (attempt.record, restored)
            }
        });
        let results: Vec<_> = stream::iter(restores).buffer_unordered(CONCURRENCY).collect().await;
        for (id, result) in results {
            report.add(id, result);
        }
        Ok(())
    }

    /// Goes through the evidence of discards.
    async fn discarded(&self, progress: &Progress, report: &mut Report) -> anyhow::Result<()> {
        let evidence = self.evidence.of_discards.iter();
        let evidence: Vec<_> = evidence
            .filter(|(id, _)| self.is_of_interest(**id) && !report.not_restored.contains(id))
            .collect();
        for batch in evidence.chunks(BATCH) {
            let restores = batch.iter().map(|(id, evidence)| async move {
                self.pace.wait().await;
                (**id, retry_transient(async || self.restorer.discarded(evidence).await).await)
            });
            let results: Vec<_> = stream::iter(restores).buffer_unordered(CONCURRENCY).collect().await;
            for (id, result) in results {
                report.add(id, result);
            }
            progress.advance(batch.len());
        }
        Ok(())
    }

    fn is_of_interest(&self, id: RecordId) -> bool {
        self.options.since.is_none_or(|since| id.received_at() >= since)
    }
}

impl Report {
    fn add(&mut self, id: RecordId, restored: Result<Restored, StageError>) {
        if matches!(restored, Err(_) | Ok(Restored::Impossible(_))) {
            self.not_restored.insert(id);
        }
        match restored {
            Ok(Restored::Completed) => self.completed += 1,
            Ok(Restored::Discarded) => self.discarded += 1,
            Ok(Restored::Present) => self.present += 1,
            Ok(Restored::Open) => self.open += 1,
            // The pass over the evidence counts the record.
            Ok(Restored::LeftToEvidence) => {}
            Ok(Restored::Impossible(why)) => self.add_problem(&id, why),
            Err(error) if error.name == ErrorName::AccessDenied => {
                self.add_problem(
                    &id,
                    format!("{error} (use the stack's RebuildRole: output RebuildRoleArn)"),
                );
            }
            Err(error) => self.add_problem(&id, error.to_string()),
        }
    }

    fn add_problem(&mut self, subject: &impl ToString, detail: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < MAX_LISTED {
            self.problems.push(Problem { subject: subject.to_string(), detail: detail.into() });
        }
    }

    fn print(&self) {
        let made = if self.dry_run { "would be made" } else { "made" };
        println!(
            "{} {made} of completed records, {} of discarded records",
            format_count(self.completed, false, "item", "items"),
            self.discarded
        );
        println!(
            "{} complete already; {} left to their workflows",
            format_count(self.present, false, "item was", "items were"),
            format_count(self.open, false, "open record", "open records"),
        );
        if self.problem_count > 0 {
            let mut lines = table(&["COULD NOT MAKE", ""]);
            self.problems.iter().take(20).for_each(|problem| {
                lines.add_row([&problem.subject, &problem.detail]);
            });
            println!("{lines}");
            println!(
                "{}; --json lists the first {MAX_LISTED}",
                format_count(self.problem_count, false, "problem", "problems")
            );
        }
        if self.completed + self.discarded > 0 && !self.dry_run {
            println!("Check the result with `custody fsck --full`.");
        }
    }
}
