//! Checks what must hold at the end of a schedule, when all faults have ended and all pending work was done.

use custody_core::{
    attempt::Attempt,
    error::{ErrorKind, ErrorName},
    manifest::Manifest,
    message::InternalMessage,
    open_record::{OpenRecord, OpenState},
    record_id::RecordId,
    testing::doubles::Item,
};

use crate::{watch, world::World};

/// Returns whether nothing is running, and every open record waits for a person.
pub(crate) fn is_at_rest(world: &World) -> bool {
    world.executions().is_at_rest() && first_pending_work(world).is_none()
}

/// Returns some work that is still pending, if there is any.
pub(crate) fn first_pending_work(world: &World) -> Option<String> {
    if let Some(attempt) = world.stores.markers.marked().first() {
        return Some(format!("there is a marker of {attempt}"));
    }
    world.stores.open_records.all().iter().find_map(|open| {
        let attempt = open.attempt();
        let item = world.stores.record_table.item(open.id());
        if item.is_some_and(|item| item.status == "COMPLETED" || is_discarded(&item, attempt)) {
            return Some(format!("{attempt} is open, and its record is completed or discarded"));
        }
        match &open.state {
            OpenState::InProgress => Some(format!("{attempt} is in progress")),
            OpenState::Failed { pending_steps, .. } if !pending_steps.is_empty() => {
                Some(format!("{attempt} has pending steps: {pending_steps:?}"))
            }
            OpenState::Failed { .. } if waits_for_person(world, open) => None,
            OpenState::Failed { .. } => Some(format!("{attempt} failed, and no dead letter was sent")),
        }
    })
}

/// Returns whether the item records a discard of this attempt. A discard of an earlier attempt does not count: somebody
/// has forced a redrive after it.
pub(crate) fn is_discarded(item: &Item, attempt: Attempt) -> bool {
    item.discarded.is_some_and(|discarded| discarded >= attempt.number())
}

fn waits_for_person(world: &World, open: &OpenRecord) -> bool {
    world.ledger().record(open.id()).dead_letters.contains(&open.attempt().number())
}

/// Checks that every accepted record is completed, announced and closed, or is open as failed, or is discarded, and
/// that the stored bytes are those that were sent.
pub(crate) fn check(world: &World) {
    if !is_at_rest(world) {
        let why = first_pending_work(world).unwrap_or_else(|| "an execution is running".to_owned());
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
    let items = world.stores.record_table.items();
    let item = items.get(&id).ok_or("accepted and not in the table")?;
    if Some(item.message.payload.sha256) != known.accepted {
        return Err("the item has another digest".to_owned());
    }
    let open = world.stores.open_records.get(id);
    match (item.status, &open) {
        ("COMPLETED", None) => {
            if world.stores.archive.content(&id.archive_key()).is_none() {
                return Err("COMPLETED, and the archive does not have its payload".to_owned());
            }
            check_manifest(world, &item.message)?;
            known.closed.map(|_| ()).ok_or_else(|| "COMPLETED, and was never open".to_owned())
        }
        ("COMPLETED", Some(open)) => Err(format!("COMPLETED, and open as {:?}", open.kind())),
        ("FAILED", None) if known.closed.is_some_and(|(_, attempt)| is_discarded(item, attempt)) => Ok(()),
        ("FAILED", Some(open)) => check_failed(world, id, open, known.is_lost),
        (status, open) => Err(format!("the item is {status}, and the record open: {}", open.is_some())),
    }
}

/// Checks that a manifest describes a completed record as its item does.
fn check_manifest(world: &World, of_item: &InternalMessage) -> Result<(), String> {
    let objects = world.stores.archive.objects();
    let manifests = objects.iter().filter_map(|(key, content)| {
        let attempt = Attempt::of_manifest_key(key)?;
        (attempt.record == of_item.message_id).then(|| Manifest::read(content))
    });
    let manifests: Vec<_> = manifests.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if manifests.is_empty() {
        return Err("COMPLETED, and the archive has no manifest of it".to_owned());
    }
    let describes = |manifest: &Manifest| {
        manifest.message.metadata == of_item.metadata && manifest.message.payload == of_item.payload
    };
    manifests.iter().all(describes).then_some(()).ok_or_else(|| "a manifest differs from the item".to_owned())
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
        return Err("FAILED, and the failure has no reference to the payload".to_owned());
    }
    Ok(())
}

/// Checks that the payload that is archived or preserved under a record's key is the one that the producer with the
/// receipt sent.
fn check_contents(world: &World) {
    let receipts = world.ledger().receipts.clone();
    for acknowledged in receipts {
        let id = acknowledged.receipt.message_id;
        let archived = world.stores.archive.content(&id.archive_key());
        let preserved = world.stores.failed_store.content(&id.preserved_key());
        for content in archived.iter().chain(&preserved) {
            if *content != acknowledged.content {
                world.ledger().violated(format!("record {id} is stored with other bytes than were sent"));
            }
        }
    }
    for key in world.stores.archive.objects().keys() {
        let id: Option<RecordId> = key.rsplit('/').next().and_then(|id| id.parse().ok());
        if id.is_none_or(|id| id.archive_key() != *key) && Attempt::of_manifest_key(key).is_none() {
            world
                .ledger()
                .violated(format!("the archive holds {key}, which is no key of a record or manifest"));
        }
    }
}

/// Checks that the cache holds only payloads of open records without an expiry. A payload that was never accepted must
/// expire.
fn check_cache(world: &World) {
    for id in world.stores.cache.records() {
        if world.stores.cache.is_persisted(id) && world.stores.open_records.get(id).is_none() {
            world.ledger().violated(format!("the cache holds the payload of record {id} without an expiry"));
        }
    }
}

/// Checks that every accepted record is completed and never had a dead letter: an outage that is shorter than an hour
/// and ends by itself needs no person.
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

/// Checks that a record is completed, unless its payload is lost or somebody discarded it.
pub(crate) fn check_completed(world: &World, id: RecordId) {
    let known = world.ledger().record(id).clone();
    if (known.is_lost && !watch::is_in_s3(world, id)) || known.is_discarded {
        return;
    }
    let states = world.stores.record_table.item(id).map(|item| item.status);
    if states != Some("COMPLETED") {
        world.ledger().violated(format!("record {id} is {states:?} after all faults have ended"));
    }
}

/// Counts how records ended.
pub(crate) fn count_ends(world: &World) {
    let items = world.stores.record_table.items();
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
