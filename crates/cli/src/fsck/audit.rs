//! The audit: checks that every object of the archive has its record, and that every record has its payload. Both
//! stores are read page by page, so that memory use does not depend on their size.
//!
//! The two stores cannot be merged: the archive lists its keys in the order of time, and a scan of the table has no
//! order. So the audit reads each store in a separate pass, and asks the other store by key. The pass over the archive
//! costs one list call and ten batches of items for 1,000 objects; it proves that each object has a record and the
//! right size. The pass over the table costs one look-up of the object of each completed item; it compares the digests,
//! which a list call does not return. So every object is looked up once, not twice. The order of the passes does not
//! matter: a record that changes during a pass is read again before it is reported, in the order in which records move
//! through the stores.

use custody_aws::{
    AuditedItem, DynamoOpenRecords, ListedObject, ObjectListing, RecordIndex, S3AcceptanceMarkers, S3Archive,
    S3FailedStore,
};
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    error::StageError,
    ports::{AcceptanceMarkers as _, FailedStore as _, OpenRecords as _, PayloadArchive as _},
    record_id::RecordId,
    stored_names::MANIFEST_PREFIX,
};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{
    Options,
    compare::{self, ExpectedPlace, Known, ObjectCheck, StuckThreshold},
    findings::{Finding, Findings, Kind},
};
use crate::{
    deployment::Deployment,
    output::format_count,
    pace::{Pace, retry_transient},
    progress::Progress,
};

/// Number of records that are checked concurrently.
const CONCURRENCY: usize = 32;

/// Number of items in one read of the record table: DynamoDB's limit.
const BATCH: usize = 100;

/// Counts of what the audit compared.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audited {
    objects: usize,
    items: usize,
    /// Items of records that a person has discarded.
    discarded: usize,
    /// Young objects without an accepted record.
    leftovers: usize,
}

struct Audit {
    archive: S3Archive,
    listing: ObjectListing,
    failed_store: S3FailedStore,
    open: DynamoOpenRecords,
    markers: S3AcceptanceMarkers,
    index: RecordIndex,
    pace: Pace,
    patience: StuckThreshold,
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
        patience: StuckThreshold { now, stuck_after: options.stuck_after },
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
    /// Lists the archive, and compares each object with its record.
    async fn objects(
        &self,
        progress: &Progress,
        findings: &mut Findings,
        audited: &mut Audited,
    ) -> Result<(), StageError> {
        // Keys begin with the time, so a time is also a position in the listing.
        let mut after = self.options.since.map(|since| since.format("%Y/%m/%d/%H/%M"));
        loop {
            let page = retry_transient(async || self.listing.page(after.as_deref()).await).await?;
            let mut records = Vec::new();
            for object in &page.objects {
                if object.key.starts_with(MANIFEST_PREFIX) {
                    continue;
                }
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
                // `custody rebuild` reads the manifests; their list is skipped here.
                Some(last) if last.key.starts_with(MANIFEST_PREFIX) && page.truncated => {
                    after = Some(format!("{MANIFEST_PREFIX}\u{7f}"));
                }
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
        self.pace.wait().await;
        let items = retry_transient(async || self.index.audit_items(&ids).await).await?;
        let looks = objects.iter().map(|(id, object)| self.compare_object(*id, object, items.get(id)));
        let looks: Vec<_> = stream::iter(looks).buffer_unordered(CONCURRENCY).collect().await;
        for look in looks {
            match look {
                ObjectCheck::Accepted => {}
                ObjectCheck::Leftover => audited.leftovers += 1,
                ObjectCheck::Wrong(finding) => findings.add(finding),
            }
        }
        Ok(())
    }

    async fn compare_object(
        &self,
        id: RecordId,
        listed: &ListedObject,
        item: Option<&AuditedItem>,
    ) -> ObjectCheck {
        let now = self.patience.now;
        if let Some(item) = item {
            return compare::object(listed, id, &Known::Item(item), now);
        }
        self.pace.wait().await;
        match self.accepted(id).await {
            Ok(Accepted::OpenOrMarked(known)) => {
                compare::object(listed, id, &Known::Accepted(&known.message.payload), now)
            }
            Ok(Accepted::Item(item)) => compare::object(listed, id, &Known::Item(&item), now),
            Ok(Accepted::NotFound) => compare::object(listed, id, &Known::Nothing, now),
            Err(error) => ObjectCheck::Wrong(not_checked(id, &error)),
        }
    }

    /// Looks for the proof that a record was accepted, after an earlier read found no item or an item that is not
    /// final. It reads the stores in the order in which records move through them, so a record that is adopted or
    /// closed in between is found in the later store.
    async fn accepted(&self, id: RecordId) -> Result<Accepted, StageError> {
        let marker = retry_transient(async || self.markers.find(Attempt::first(id)).await).await?;
        if let Some(marker) = marker {
            return Ok(Accepted::OpenOrMarked(Box::new(marker)));
        }
        if let Some(open) = retry_transient(async || self.open.find(id).await).await? {
            return Ok(Accepted::OpenOrMarked(Box::new(open)));
        }
        let item = retry_transient(async || self.index.audit_items(&[id]).await).await?.remove(&id);
        Ok(item.map_or(Accepted::NotFound, Accepted::Item))
    }

    /// Scans the record table, and compares each item with its payload, or with its open record.
    async fn items(
        &self,
        progress: &Progress,
        findings: &mut Findings,
        audited: &mut Audited,
    ) -> Result<(), StageError> {
        let mut cursor = None;
        loop {
            let page = retry_transient(async || self.index.audit_page(cursor.clone()).await).await?;
            for key in page.unreadable {
                findings.add(Finding::new(Kind::UnreadableItem, key, "the item has another format"));
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
            audited.discarded += items.iter().filter(|item| item.state.is_discarded()).count();
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn compare_item(&self, item: &AuditedItem) -> Result<Option<Finding>, StageError> {
        match compare::expected_place(item, self.patience) {
            ExpectedPlace::Nothing => Ok(None),
            ExpectedPlace::Archived => {
                self.pace.wait().await;
                let stored = self.archived(item).await?;
                Ok(compare::payload(item, stored, Kind::ItemWithoutObject))
            }
            ExpectedPlace::Open => {
                self.pace.wait().await;
                match self.accepted(item.id).await? {
                    Accepted::OpenOrMarked(_) if item.is_secure => {
                        let stored = match self.preserved(item).await? {
                            Some(stored) => Some(stored),
                            None => self.archived(item).await?,
                        };
                        Ok(compare::payload(item, stored, Kind::PayloadGone))
                    }
                    Accepted::OpenOrMarked(_) => Ok(None),
                    Accepted::Item(latest) => Ok(compare::not_open(&latest, self.patience)),
                    Accepted::NotFound => Ok(compare::not_open(item, self.patience)),
                }
            }
        }
    }

    /// Returns the digest and the size of the archived payload; `None` if it is not archived.
    async fn archived(&self, item: &AuditedItem) -> Result<Option<(Sha256, u64)>, StageError> {
        let key = item.id.archive_key();
        let Some(found) = retry_transient(async || self.archive.find(&key).await).await? else {
            return Ok(None);
        };
        let sha256 = if self.options.read {
            retry_transient(async || self.archive.digest_of_content(&key).await).await?
        } else {
            found.sha256
        };
        Ok(Some((sha256, found.size_bytes)))
    }

    /// Returns the digest and the size of the preserved payload; `None` if it is not preserved. It reads the whole
    /// payload, because failed records are few.
    async fn preserved(&self, item: &AuditedItem) -> Result<Option<(Sha256, u64)>, StageError> {
        let key = item.id.preserved_key();
        let content = retry_transient(async || self.failed_store.fetch(&key).await).await?;
        Ok(content.map(|content| (Sha256::of(&content), content.len() as u64)))
    }
}

/// Proof that a record was accepted.
enum Accepted {
    /// The open record, or the one in the acceptance marker.
    OpenOrMarked(Box<custody_core::open_record::OpenRecord>),
    /// The item of a record that is not open.
    Item(AuditedItem),
    /// No proof was found.
    NotFound,
}

fn not_checked(id: RecordId, error: &StageError) -> Finding {
    Finding::new(Kind::NotChecked, id, error.to_string())
}

impl Audited {
    pub(super) fn text(&self) -> String {
        let objects = format_count(self.objects, false, "archived object", "archived objects");
        let items = format_count(self.items, false, "item", "items");
        let leftovers = format_count(self.leftovers, false, "leftover", "leftovers");
        let discarded = match self.discarded {
            0 => String::new(),
            count => format!(" ({count} discarded)"),
        };
        format!("compared {objects} and {items}{discarded}; {leftovers} without an accepted record")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_records_are_mentioned() {
        let mut audited = Audited { objects: 3, items: 4, discarded: 1, leftovers: 0 };
        assert_eq!(
            audited.text(),
            "compared 3 archived objects and 4 items (1 discarded); 0 leftovers without an accepted record"
        );
        audited.discarded = 0;
        assert_eq!(
            audited.text(),
            "compared 3 archived objects and 4 items; 0 leftovers without an accepted record"
        );
    }
}
