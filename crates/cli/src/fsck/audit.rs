//! The audit: every object of the archive has its record, and every record its payload. Both stores are read page by page, so
//! that memory is bounded whatever they hold.
//!
//! Neither store can be merged with the other: the archive's keys are in the order of time, and a scan of the table is in none.
//! So each is read on its own and the other one is asked by key. The archive costs one list call for 1,000 objects, and ten
//! batches of items; what that proves of an object is that it has a record and the right size. The table costs one look at
//! the object of each completed item, and it is this look that compares digests, which a list does not have. So every object
//! is looked at once, not twice. The order of the passes does not matter: what changes while they read is read again before
//! it is reported, in the direction in which records move.

use custody_aws::{
    ArchiveListing, AuditedItem, DynamoOpenRecords, ListedObject, RecordIndex, S3AcceptanceMarkers,
    S3Archive, S3FailedStore,
};
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    error::StageError,
    ports::{AcceptanceMarkers as _, FailedStore as _, OpenRecords as _, PayloadArchive as _},
    record_id::RecordId,
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{
    Options, Progress,
    compare::{self, Claim, Known, Object, Patience},
    findings::{Finding, Findings, Kind},
    pace::{Pace, patiently},
};
use crate::{deployment::Deployment, output::counted};

/// How many records are looked at at once.
const CONCURRENCY: usize = 32;

/// How many items the record table is asked for at once, its limit.
const BATCH: usize = 100;

/// What was compared.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audited {
    objects: usize,
    items: usize,
    /// Young objects that nobody was promised.
    leftovers: usize,
}

struct Audit {
    archive: S3Archive,
    listing: ArchiveListing,
    failed_store: S3FailedStore,
    open: DynamoOpenRecords,
    markers: S3AcceptanceMarkers,
    index: RecordIndex,
    pace: Pace,
    patience: Patience,
    options: Options,
}

pub(super) async fn run(
    deployment: &Deployment,
    options: Options,
    now: Timestamp,
    progress: &Progress,
    findings: &mut Findings,
) -> anyhow::Result<Audited> {
    let audit = Audit {
        archive: deployment.archive()?,
        listing: deployment.archive_listing()?,
        failed_store: deployment.failed_store()?,
        open: deployment.open_records()?,
        markers: deployment.markers()?,
        index: deployment.index()?,
        pace: Pace::new(options.max_per_second),
        patience: Patience { now, stuck_after: options.stuck_after },
        options,
    };
    let mut audited = Audited::default();
    progress.begin("archived objects");
    audit.objects(progress, findings, &mut audited).await?;
    progress.begin("items");
    audit.items(progress, findings, &mut audited).await?;
    Ok(audited)
}

impl Audit {
    /// Reads the archive, and asks for the record of each object.
    async fn objects(
        &self,
        progress: &Progress,
        findings: &mut Findings,
        audited: &mut Audited,
    ) -> Result<(), StageError> {
        // Keys begin with the time, so that a time is a place in the list.
        let mut after = self.options.since.map(|since| since.format("%Y/%m/%d/%H/%M"));
        loop {
            let page = patiently(async || self.listing.page(after.as_deref()).await).await?;
            let mut records = Vec::new();
            for object in &page.objects {
                match compare::record_of(&object.key) {
                    Ok(id) if self.is_of_interest(id) => records.push((id, object)),
                    Ok(_) => {}
                    Err(foreign) => findings.add(foreign),
                }
            }
            for batch in records.chunks(BATCH) {
                self.compare_objects(batch, findings, audited).await?;
            }
            audited.objects += records.len();
            progress.advance(page.objects.len());
            match page.objects.last() {
                Some(last) if page.truncated => after = Some(last.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    fn is_of_interest(&self, id: RecordId) -> bool {
        self.options.since.is_none_or(|since| id.received_at() >= since)
    }

    async fn compare_objects(
        &self,
        objects: &[(RecordId, &ListedObject)],
        findings: &mut Findings,
        audited: &mut Audited,
    ) -> Result<(), StageError> {
        let ids: Vec<_> = objects.iter().map(|(id, _)| *id).collect();
        self.pace.turn().await;
        let items = patiently(async || self.index.audit_items(&ids).await).await?;
        let looks = objects.iter().map(|(id, object)| self.compare_object(*id, object, items.get(id)));
        let looks: Vec<_> = stream::iter(looks).buffer_unordered(CONCURRENCY).collect().await;
        for look in looks {
            match look {
                Object::Promised => {}
                Object::Leftover => audited.leftovers += 1,
                Object::Wrong(finding) => findings.add(finding),
            }
        }
        Ok(())
    }

    async fn compare_object(
        &self,
        id: RecordId,
        listed: &ListedObject,
        item: Option<&AuditedItem>,
    ) -> Object {
        let now = self.patience.now;
        if let Some(item) = item {
            return compare::object(listed, id, &Known::Item(item), now);
        }
        self.pace.turn().await;
        match self.accepted(id).await {
            Ok(Accepted::As(known)) => {
                compare::object(listed, id, &Known::Accepted(&known.message.payload), now)
            }
            Ok(Accepted::Item(item)) => compare::object(listed, id, &Known::Item(&item), now),
            Ok(Accepted::Not) => compare::object(listed, id, &Known::Nothing, now),
            Err(error) => Object::Wrong(not_checked(id, &error)),
        }
    }

    /// What tells that a record was accepted that had no item, or one that is not final, when it was read before. In the
    /// direction in which records move: what is adopted, or closed, in between is seen in the later place.
    async fn accepted(&self, id: RecordId) -> Result<Accepted, StageError> {
        let marker = patiently(async || self.markers.find(Attempt::first(id)).await).await?;
        if let Some(marker) = marker {
            return Ok(Accepted::As(Box::new(marker)));
        }
        if let Some(open) = patiently(async || self.open.find(id).await).await? {
            return Ok(Accepted::As(Box::new(open)));
        }
        let item = patiently(async || self.index.audit_items(&[id]).await).await?.remove(&id);
        Ok(item.map_or(Accepted::Not, Accepted::Item))
    }

    /// Reads the table, and asks for the payload, or the open record, of each item.
    async fn items(
        &self,
        progress: &Progress,
        findings: &mut Findings,
        audited: &mut Audited,
    ) -> Result<(), StageError> {
        let mut cursor = None;
        loop {
            let page = patiently(async || self.index.audit_page(cursor.clone()).await).await?;
            for key in page.unreadable {
                findings.add(Finding::new(Kind::UnreadableItem, key, "the item is not a record's"));
            }
            let items: Vec<_> = page.items.iter().filter(|item| self.is_of_interest(item.id)).collect();
            let looks = items.iter().map(|item| async move {
                self.compare_item(item).await.unwrap_or_else(|error| Some(not_checked(item.id, &error)))
            });
            let mut looks = stream::iter(looks).buffer_unordered(CONCURRENCY);
            while let Some(found) = looks.next().await {
                if let Some(finding) = found {
                    findings.add(finding);
                }
                progress.advance(1);
            }
            audited.items += items.len();
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn compare_item(&self, item: &AuditedItem) -> Result<Option<Finding>, StageError> {
        match compare::claim(item, self.patience) {
            Claim::Nothing => Ok(None),
            Claim::Archived => {
                self.pace.turn().await;
                let stored = self.archived(item).await?;
                Ok(compare::payload(item, stored, Kind::ItemWithoutObject))
            }
            Claim::Open => {
                self.pace.turn().await;
                match self.accepted(item.id).await? {
                    Accepted::As(_) if item.is_secure => {
                        let stored = match self.preserved(item).await? {
                            Some(stored) => Some(stored),
                            None => self.archived(item).await?,
                        };
                        Ok(compare::payload(item, stored, Kind::PayloadGone))
                    }
                    Accepted::As(_) => Ok(None),
                    Accepted::Item(latest) => Ok(compare::not_open(&latest, self.patience)),
                    Accepted::Not => Ok(compare::not_open(item, self.patience)),
                }
            }
        }
    }

    /// Digest and size of the archived payload.
    async fn archived(&self, item: &AuditedItem) -> Result<Option<(Sha256, u64)>, StageError> {
        let key = item.id.archive_key();
        let Some(found) = patiently(async || self.archive.find(&key).await).await? else { return Ok(None) };
        let sha256 = if self.options.read {
            patiently(async || self.archive.digest_of_content(&key).await).await?
        } else {
            found.sha256
        };
        Ok(Some((sha256, found.size_bytes)))
    }

    /// Digest and size of the preserved payload. Failed records are few: each is read.
    async fn preserved(&self, item: &AuditedItem) -> Result<Option<(Sha256, u64)>, StageError> {
        let key = item.id.preserved_key();
        let content = patiently(async || self.failed_store.fetch(&key).await).await?;
        Ok(content.map(|content| (Sha256::of(&content), content.len() as u64)))
    }
}

/// What tells that a record was accepted.
enum Accepted {
    /// An acceptance marker, or the open record.
    As(Box<custody_core::open_record::OpenRecord>),
    /// An item, of a record that is closed.
    Item(AuditedItem),
    /// Nothing.
    Not,
}

fn not_checked(id: RecordId, error: &StageError) -> Finding {
    Finding::new(Kind::NotChecked, id, error.to_string())
}

impl Audited {
    pub(super) fn text(&self) -> String {
        let objects = counted(self.objects, false, "archived object", "archived objects");
        let items = counted(self.items, false, "item", "items");
        let leftovers = counted(self.leftovers, false, "leftover", "leftovers");
        format!("compared {objects} and {items}; {leftovers} that nobody was promised")
    }
}
