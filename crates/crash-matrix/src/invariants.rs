//! What must hold for every acknowledged record, whatever went wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use custody_core::{idempotency::IdempotencyKey, receipt::Receipt, record_id::RecordId};

use crate::{workflow::COMPLETED, world::World};

/// A record whose producer holds a receipt.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) receipt: Receipt,
    pub(crate) payload: Vec<u8>,
    pub(crate) key: Option<IdempotencyKey>,
}

/// Whether nothing is under way any more.
pub(crate) fn quiet(world: &World) -> bool {
    world.cache.pending_runs().is_empty()
        && world.markers.marked().is_empty()
        && world.running().is_empty()
        && world.redrives.scheduled().is_empty()
        && world.in_redrive.load(std::sync::atomic::Ordering::Relaxed) == 0
}

/// What is under way.
pub(crate) fn rest(world: &World) -> String {
    format!(
        "pending entries {:?}, markers {:?}, executions {:?}",
        world.cache.pending_runs(),
        world.markers.marked(),
        world.running()
    )
}

/// Every acknowledged record is at one of its two ends, and what is kept is what was sent.
pub(crate) fn ended(world: &Arc<World>, acknowledged: &[Acknowledged]) -> Vec<String> {
    let mut violations = Vec::new();
    let (items, objects) = (world.table.items(), world.archive.objects());
    let letters = world.dead_letters.letters();
    for Acknowledged { receipt, payload, .. } in acknowledged {
        let id = receipt.message_id;
        let mut violated = |what: String| violations.push(format!("record {id}: {what}"));
        let Some(item) = items.get(&id) else {
            violated("acknowledged and not in the table".to_owned());
            continue;
        };
        if item.message.payload.sha256 != receipt.payload.sha256 {
            violated("the item's digest is not the receipt's".to_owned());
        }
        match item.status {
            "COMPLETED" => {
                if objects.get(&id.archive_key()).map(|object| &object[..]) != Some(payload) {
                    violated("COMPLETED, and the archive does not have its bytes".to_owned());
                }
            }
            "FAILED" => {
                let attempt = item.failure.as_ref().map(|failure| failure.attempt);
                let letter =
                    letters.iter().find(|l| l.message_id == Some(id) && Some(l.failure.attempt) == attempt);
                if letter.is_none() {
                    violated(format!("FAILED in attempt {attempt:?}, and no dead letter says so"));
                }
                let archived = objects.get(&id.archive_key()).map(|object| object.to_vec());
                let kept = world
                    .failed_store
                    .objects()
                    .get(&format!("records/{}", id.archive_key()))
                    .map(|o| o.to_vec());
                if archived.or(kept).as_ref() != Some(payload) {
                    violated("FAILED, and its payload is not kept".to_owned());
                }
            }
            status => violated(format!("acknowledged and {status}, with nothing under way")),
        }
    }
    violations.extend(consistent(world, acknowledged));
    violations
}

/// Every acknowledged record is complete.
pub(crate) fn completed(world: &Arc<World>, acknowledged: &[Acknowledged]) -> Vec<String> {
    let mut violations = ended(world, acknowledged);
    for Acknowledged { receipt, .. } in acknowledged {
        let status = world.table.item(receipt.message_id).map(|item| item.status);
        if status != Some("COMPLETED") {
            violations
                .push(format!("record {}: {status:?} after every fault was mended", receipt.message_id));
        }
    }
    violations
}

/// What must hold whether or not a record was acknowledged.
fn consistent(world: &Arc<World>, acknowledged: &[Acknowledged]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut completions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for notification in world.notifier.published() {
        if notification.event_type == COMPLETED {
            let id = notification.body["id"].to_string();
            completions.entry(id).or_default().insert(notification.body.to_string());
        }
    }
    for (id, contents) in completions {
        if contents.len() > 1 {
            violations.push(format!("`completed` {id} was announced with {} contents", contents.len()));
        }
    }
    for (key, object) in world.archive.objects() {
        let id: Option<RecordId> = key.rsplit('/').next().and_then(|id| id.parse().ok());
        if id.is_none_or(|id| id.archive_key() != key) {
            violations.push(format!("the archive holds {key}, which is no record's key"));
        }
        let sent = acknowledged.iter().find(|a| Some(a.receipt.message_id) == id);
        if sent.is_some_and(|sent| sent.payload != object[..]) {
            violations.push(format!("the archive holds other bytes under {key}"));
        }
    }
    // A fault that meets the claims themselves may make two records of two requests at once: no store can tell then.
    if !world.injector.claims_disturbed() {
        let mut by_key: BTreeMap<IdempotencyKey, BTreeSet<RecordId>> = BTreeMap::new();
        for Acknowledged { receipt, key, .. } in acknowledged {
            if let Some(key) = key {
                by_key.entry(*key).or_default().insert(receipt.message_id);
            }
        }
        for (key, ids) in by_key {
            if ids.len() > 1 {
                violations.push(format!("one idempotency key {key}, {} records: {ids:?}", ids.len()));
            }
        }
    }
    violations
}
