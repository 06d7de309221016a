//! `custody fsck`: what archive, table, pending records and dead-letter queue say of every record, and where they disagree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use aws_sdk_sqs::types::QueueAttributeName;
use clap::Args;
use custody_common::{
    aws::{S3Archive, S3FailedStore},
    clock::SystemClock,
};
use custody_core::{
    clock::{Clock as _, Timestamp},
    digest::Sha256,
    ports::{FailedStore as _, PayloadArchive as _},
    record_id::RecordId,
    stages::{failure::kept_key, reconcile::Request},
};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::{
    Done,
    deployment::Deployment,
    letters::{Queue, Selection},
    output::{Output, table},
};

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How old, in seconds, a record must be to be stuck, or missing where it should be. Younger ones are on their way.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    min_age: u64,
    /// Read every archived object and hash it, instead of taking S3's word for its checksum.
    #[arg(long)]
    read: bool,
}

/// A disagreement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    kind: Kind,
    /// The record, or the object that belongs to none.
    subject: String,
    detail: String,
}

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    ObjectWithoutItem,
    ItemWithoutObject,
    DigestMismatch,
    StuckRecord,
    FailedWithoutLetter,
    PayloadGone,
    LetterWithoutItem,
    ForeignObject,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    items: usize,
    objects: usize,
    pending: usize,
    letters: usize,
    /// Letters on their way through the redrive queue; their records are taken to be on their way, too.
    redrives: usize,
    findings: Vec<Finding>,
}

/// What the table says of a record, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    status: String,
    payload: Payload,
    #[serde(default)]
    failure: Option<Failure>,
    #[serde(default)]
    discarded: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Payload {
    sha256: Sha256,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    failed_at: Timestamp,
}

/// How many objects are looked at at once.
const CONCURRENCY: usize = 32;

/// How many pending records reconcile is asked for: as many as fit the 6 MB that a function may answer.
const MAX_PENDING: usize = 30_000;

pub(crate) async fn run(deployment: &Deployment, output: Output, options: Options) -> anyhow::Result<Done> {
    let progress = Progress::new();
    // In this order: a record moves from pending to archive and table, never back, so one that is on its way while this
    // looks is seen in the earlier place, the later one, or both, and is too young to count.
    progress.say("pending records");
    let pending = deployment.pending(Request::List { list: MAX_PENDING }).await?;
    // Without all of them, records on their way would look like records that are stuck.
    ensure!(
        pending.errors == 0,
        "one of the two stores of pending records could not be asked; see reconcile's log"
    );
    ensure!(
        pending.total <= MAX_PENDING,
        "{} records are pending, more than this can compare; wait until reconcile has worked through them",
        pending.total
    );
    progress.say("dead letters");
    let mut queue = Queue::new(deployment.aws.sqs(), deployment.output("DeadLetterQueueUrl")?);
    let letters = queue.all(&Selection::default(), usize::MAX).await;
    if let Ok(held) = &letters {
        queue.leave_all(held.clone());
    }
    queue.release().await;
    let letters = letters?;
    let redrives = redrives(deployment).await?;
    progress.say("archive");
    let objects = objects(deployment).await?;
    progress.say("table");
    let items = items(deployment).await?;

    let mut check = Check {
        options,
        now: SystemClock.now(),
        items: &items,
        pending: pending.pending.iter().map(|entry| entry.message_id).collect(),
        letters: letters.iter().filter_map(|held| held.letter.as_ref()?.message_id).collect(),
        redrives,
        findings: BTreeSet::new(),
    };
    for entry in &pending.pending {
        if entry.age_seconds >= options.min_age {
            let detail = format!("pending in run {} for {} s", entry.attempt, entry.age_seconds);
            check.find(Kind::StuckRecord, entry.message_id, detail);
        }
    }
    check.letters();
    let by_id = check.objects(&objects);
    let to_read: Vec<_> = by_id.iter().map(|(id, key)| (*id, *key)).collect();
    progress.say("digests");
    check.digests(deployment, &to_read).await?;
    progress.say("items");
    check.items(deployment, &by_id).await?;
    progress.done();

    let findings: Vec<_> = std::mem::take(&mut check.findings).into_iter().collect();
    let done = if findings.is_empty() { Done::All } else { Done::Partly };
    let report = Report {
        items: items.len(),
        objects: objects.len(),
        pending: pending.total,
        letters: letters.len(),
        redrives,
        findings,
    };
    output.print(&report, Report::print)?;
    Ok(done)
}

struct Check<'a> {
    options: Options,
    now: Timestamp,
    items: &'a BTreeMap<RecordId, Item>,
    pending: BTreeSet<RecordId>,
    letters: BTreeSet<RecordId>,
    redrives: usize,
    findings: BTreeSet<Finding>,
}

impl<'a> Check<'a> {
    fn find(&mut self, kind: Kind, subject: impl Display, detail: impl Into<String>) {
        self.findings.insert(Finding { kind, subject: subject.to_string(), detail: detail.into() });
    }

    fn is_old(&self, since: Timestamp) -> bool {
        self.now.since(since) >= Duration::from_secs(self.options.min_age)
    }

    fn letters(&mut self) {
        let unknown: Vec<_> =
            self.letters.iter().filter(|id| !self.items.contains_key(id)).copied().collect();
        for id in unknown {
            self.find(
                Kind::LetterWithoutItem,
                id,
                "a dead letter speaks of a record that the table does not have",
            );
        }
    }

    /// The objects by record.
    fn objects(&mut self, keys: &'a [String]) -> BTreeMap<RecordId, &'a str> {
        let mut by_id = BTreeMap::new();
        for key in keys {
            let id: Option<RecordId> = key.rsplit('/').next().and_then(|name| name.parse().ok());
            match id.filter(|id| id.archive_key() == *key) {
                Some(id) => {
                    by_id.insert(id, key.as_str());
                }
                None => self.find(Kind::ForeignObject, key, "the archive has an object that is no record's"),
            }
        }
        for id in by_id.keys() {
            if !self.items.contains_key(id) && !self.pending.contains(id) && self.is_old(id.received_at()) {
                self.find(Kind::ObjectWithoutItem, id, "archived, and neither in the table nor pending");
            }
        }
        by_id
    }

    async fn digests(&mut self, deployment: &Deployment, objects: &[(RecordId, &str)]) -> anyhow::Result<()> {
        let archive = S3Archive::new(deployment.aws.s3(), deployment.output("ArchiveBucket")?.to_owned());
        let (archive, read) = (&archive, self.options.read);
        let looks =
            objects.iter().filter_map(|(id, key)| Some((*id, *key, self.items.get(id)?.payload.sha256)));
        let looks = looks.map(|(id, key, wanted)| async move {
            let found = if read {
                archive.digest_of_content(key).await.map(Some)
            } else {
                archive.find(key).await.map(|object| object.map(|object| object.sha256))
            };
            (id, wanted, found)
        });
        let results: Vec<_> = stream::iter(looks).buffer_unordered(CONCURRENCY).collect().await;
        for (id, wanted, found) in results {
            match found? {
                Some(found) if found == wanted => {}
                Some(found) => {
                    self.find(
                        Kind::DigestMismatch,
                        id,
                        format!("the table says {wanted}, the archive has {found}"),
                    );
                }
                None => self.find(Kind::ItemWithoutObject, id, "its object went while this looked"),
            }
        }
        Ok(())
    }

    async fn items(
        &mut self,
        deployment: &Deployment,
        objects: &BTreeMap<RecordId, &str>,
    ) -> anyhow::Result<()> {
        let store = S3FailedStore::new(deployment.aws.s3(), deployment.output("FailedBucket")?.to_owned());
        for (id, item) in self.items {
            let archived = objects.contains_key(id);
            match item.status.as_str() {
                "COMPLETED" if !archived => {
                    self.find(
                        Kind::ItemWithoutObject,
                        id,
                        "COMPLETED, and the archive does not have its payload",
                    );
                }
                "COMPLETED" => {}
                "FAILED" => {
                    let explained =
                        self.letters.contains(id) || self.pending.contains(id) || item.discarded.is_some();
                    let failed_at =
                        item.failure.as_ref().map_or(id.received_at(), |failure| failure.failed_at);
                    if !explained && self.redrives == 0 && self.is_old(failed_at) {
                        let detail = format!(
                            "FAILED at {failed_at}, with no dead letter and nothing pending; letters expire after 14 days"
                        );
                        self.find(Kind::FailedWithoutLetter, id, detail);
                    }
                    if !archived && !self.pending.contains(id) {
                        let kept = store.fetch(&kept_key(*id)).await?;
                        if kept.map(|content| Sha256::of(&content)) != Some(item.payload.sha256) {
                            self.find(
                                Kind::PayloadGone,
                                id,
                                "FAILED, and its payload is in neither archive nor failed-records store",
                            );
                        }
                    }
                }
                status if !self.pending.contains(id) && self.is_old(id.received_at()) => {
                    self.find(
                        Kind::StuckRecord,
                        id,
                        format!("{status}, and nothing is pending that would go on with it"),
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The keys of all archived objects.
async fn objects(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    let bucket = deployment.output("ArchiveBucket")?;
    let mut pages = deployment.aws.s3().list_objects_v2().bucket(bucket).into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.with_context(|| format!("list the objects of {bucket}"))?;
        keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    Ok(keys)
}

async fn items(deployment: &Deployment) -> anyhow::Result<BTreeMap<RecordId, Item>> {
    let table = deployment.output("TableName")?;
    let scan = deployment
        .aws
        .dynamodb()
        .scan()
        .table_name(table)
        .consistent_read(true)
        .projection_expression("messageID, #status, payload, failure, discarded")
        .expression_attribute_names("#status", "status");
    let mut pages = scan.into_paginator().items().send();
    let mut items = BTreeMap::new();
    while let Some(item) = pages.next().await {
        let item: Item = serde_dynamo::from_item(item.with_context(|| format!("scan {table}"))?)
            .with_context(|| format!("read an item of {table}"))?;
        items.insert(item.message_id, item);
    }
    Ok(items)
}

/// How many letters are on the redrive queue, visible, delayed, or in the function's hands.
async fn redrives(deployment: &Deployment) -> anyhow::Result<usize> {
    let counts = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    ];
    let url = deployment.output("RedriveQueueUrl")?;
    let asked = deployment
        .aws
        .sqs()
        .get_queue_attributes()
        .queue_url(url)
        .set_attribute_names(Some(counts.to_vec()))
        .send()
        .await;
    let attributes =
        asked.context("ask how many letters are on the redrive queue")?.attributes.unwrap_or_default();
    Ok(counts.iter().filter_map(|count| attributes.get(count)?.parse::<usize>().ok()).sum())
}

impl Report {
    fn print(&self) {
        println!(
            "{} items, {} archived objects, {} pending, {} dead letters, {} on the redrive queue",
            self.items, self.objects, self.pending, self.letters, self.redrives
        );
        if self.redrives > 0 {
            println!(
                "While letters are on the redrive queue, records that failed without a letter are not reported."
            );
        }
        if self.findings.is_empty() {
            println!("Everything agrees.");
            return;
        }
        let mut lines = table(&["DISAGREEMENT", "RECORD", ""]);
        for finding in &self.findings {
            let kind = serde_json::to_value(finding.kind).unwrap_or_default();
            lines.add_row([kind.as_str().unwrap_or_default(), &finding.subject, &finding.detail]);
        }
        println!("{lines}\n{} disagreements", self.findings.len());
    }
}

/// What is being looked at, on standard error.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    fn say(&self, what: &'static str) {
        self.0.set_message(what);
    }

    fn done(&self) {
        self.0.finish_and_clear();
    }
}
