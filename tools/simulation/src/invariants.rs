//! What must hold in the end, when every fault is mended and everything owed was done.

use custody_core::{
    attempt::Attempt,
    error::{ErrorKind, ErrorName},
    open_record::{OpenRecord, OpenState},
    record_id::RecordId,
    testing::doubles::Item,
};

use crate::{watch, world::World};

/// Whether nothing is under way, and every open record waits for a person.
pub(crate) fn is_quiet(world: &World) -> bool {
    world.executions().is_quiet() && why_not_quiet(world).is_none()
}

/// What is still owed.
pub(crate) fn why_not_quiet(world: &World) -> Option<String> {
    if let Some(attempt) = world.stores.markers.marked().first() {
        return Some(format!("there is a marker of {attempt}"));
    }
    world.stores.open.all().iter().find_map(|open| {
        let attempt = open.attempt();
        let item = world.stores.table.item(open.id());
        if item.is_some_and(|item| item.status == "COMPLETED" || is_discarded(&item, attempt)) {
            return Some(format!("{attempt} is open, and its record is completed or discarded"));
        }
        match &open.state {
            OpenState::InProgress => Some(format!("{attempt} is in progress")),
            OpenState::Failed { owed, .. } if !owed.is_empty() => Some(format!("{attempt} owes {owed:?}")),
            OpenState::Failed { .. } if waits_for_person(world, open) => None,
            OpenState::Failed { .. } => Some(format!("{attempt} failed, and no dead letter was sent")),
        }
    })
}

/// Whether an item tells that an attempt was discarded, not an earlier one that somebody insisted on redriving.
pub(crate) fn is_discarded(item: &Item, attempt: Attempt) -> bool {
    item.discarded.is_some_and(|discarded| discarded >= attempt.number())
}

fn waits_for_person(world: &World, open: &OpenRecord) -> bool {
    world.ledger().record(open.id()).dead_letters.contains(&open.attempt().number())
}

/// Every accepted record is completed, announced and closed, or open as failed, or discarded; and what is kept is what was
/// sent.
pub(crate) fn check(world: &World) {
    if !is_quiet(world) {
        let why = why_not_quiet(world).unwrap_or_else(|| "an execution is under way".to_owned());
        world.ledger().violated(format!("stuck: {why}"));
    }
    let accepted: Vec<RecordId> = {
        let ledger = world.ledger();
        let accepted = ledger.records.iter().filter(|(_, known)| known.accepted.is_some());
        accepted.map(|(id, _)| *id).collect()
    };
    for id in accepted {
        if let Err(what) = check_record(world, id) {
            world.ledger().violated(format!("record {id}: {what}"));
        }
    }
    check_contents(world);
    check_cache(world);
}

fn check_record(world: &World, id: RecordId) -> Result<(), String> {
    let known = world.ledger().record(id).clone();
    let items = world.stores.table.items();
    let item = items.get(&id).ok_or("accepted and not in the table")?;
    if Some(item.message.payload.sha256) != known.accepted {
        return Err("the item has another digest".to_owned());
    }
    let open = world.stores.open.get(id);
    match (item.status, &open) {
        ("COMPLETED", None) => {
            if world.stores.archive.content(&id.archive_key()).is_none() {
                return Err("COMPLETED, and the archive does not have its payload".to_owned());
            }
            known.closed.map(|_| ()).ok_or_else(|| "COMPLETED, and was never open".to_owned())
        }
        ("COMPLETED", Some(open)) => Err(format!("COMPLETED, and open as {:?}", open.kind())),
        ("FAILED", None) if known.closed.is_some_and(|(_, attempt)| is_discarded(item, attempt)) => Ok(()),
        ("FAILED", Some(open)) => check_failed(world, id, open, known.is_lost),
        (status, open) => Err(format!("the item is {status}, and the record open: {}", open.is_some())),
    }
}

fn check_failed(world: &World, id: RecordId, open: &OpenRecord, is_lost: bool) -> Result<(), String> {
    let OpenState::Failed { failure, .. } = &open.state else {
        return Err("the item is FAILED, and the record in progress".to_owned());
    };
    if !watch::is_in_s3(world, id) && !is_lost {
        return Err("FAILED, and no bucket has its payload".to_owned());
    }
    if !watch::is_in_s3(world, id) && failure.error_name != ErrorName::PayloadLost.as_str() {
        return Err(format!("lost, and FAILED for another reason, {}", failure.error_name));
    }
    if failure.payload_reference.is_none() && !is_lost {
        return Err("FAILED, and the failure does not tell where the payload is".to_owned());
    }
    Ok(())
}

/// What is archived or preserved under a record's key is what the producer with the receipt sent.
fn check_contents(world: &World) {
    let receipts = world.ledger().receipts.clone();
    for acknowledged in receipts {
        let id = acknowledged.receipt.message_id;
        let archived = world.stores.archive.content(&id.archive_key());
        let preserved = world.stores.failed_store.content(&id.preserved_key());
        for content in archived.iter().chain(&preserved) {
            if *content != acknowledged.content {
                world.ledger().violated(format!("record {id} is kept with other bytes than were sent"));
            }
        }
    }
    for key in world.stores.archive.objects().keys() {
        let id: Option<RecordId> = key.rsplit('/').next().and_then(|id| id.parse().ok());
        if id.is_none_or(|id| id.archive_key() != *key) {
            world.ledger().violated(format!("the archive holds {key}, which is no record's key"));
        }
    }
}

/// The cache keeps for good only the payloads of open records. What was never accepted expires.
fn check_cache(world: &World) {
    for id in world.stores.cache.records() {
        if world.stores.cache.is_persisted(id) && world.stores.open.get(id).is_none() {
            world.ledger().violated(format!("the cache keeps the payload of record {id} for good"));
        }
    }
}

/// Every accepted record is completed, and no dead letter was ever sent of one: an outage that was shorter than an hour and
/// passed by itself needs no person.
pub(crate) fn check_unattended(world: &World) {
    let accepted: Vec<_> = {
        let ledger = world.ledger();
        ledger.records.iter().filter(|(_, known)| known.accepted.is_some()).map(|(id, _)| *id).collect()
    };
    for id in accepted {
        check_completed(world, id);
        if !world.ledger().record(id).dead_letters.is_empty() {
            world.ledger().violated(format!("record {id} has a dead letter, for an outage that passed"));
        }
    }
}

/// A record whose payload is not lost, and that nobody discarded, is completed.
pub(crate) fn check_completed(world: &World, id: RecordId) {
    let known = world.ledger().record(id).clone();
    if (known.is_lost && !watch::is_in_s3(world, id)) || known.is_discarded {
        return;
    }
    let states = world.stores.table.item(id).map(|item| item.status);
    if states != Some("COMPLETED") {
        world.ledger().violated(format!("record {id} is {states:?} after every fault was mended"));
    }
}

/// How records ended.
pub(crate) fn count_ends(world: &World) {
    let items = world.stores.table.items();
    let mut ledger = world.ledger();
    let accepted: Vec<_> =
        ledger.records.iter().filter(|(_, k)| k.accepted.is_some()).map(|(id, _)| *id).collect();
    for id in accepted {
        let end = items.get(&id).map_or("no item".to_owned(), |item| match &item.failure {
            _ if item.status == "COMPLETED" => "COMPLETED".to_owned(),
            Some(failure) if item.discarded.is_some_and(|of| of >= failure.attempt) => "discarded".to_owned(),
            Some(failure) if failure.kind == ErrorKind::Transient => "FAILED, transient".to_owned(),
            Some(failure) => format!("FAILED, {}", failure.error_name),
            None => item.status.to_owned(),
        });
        ledger.counts.add("record ended", end);
    }
}
